"""What a moved arm says about its joints: seams of encoders, directions, limits; no bus needed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.real_robot.calibration.measure import (
    Range,
    RangeRecorder,
    beside,
    direction_of,
    proposed_limits,
    recentring,
    shortest_way,
    steady,
)

NAMES = ["base (servo 1)", "lift (servo 2)"]
TICK = 2 * np.pi / 4096


def counts(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def recorded(*path: float) -> RangeRecorder:
    """A range of two joints of which the second goes to and fro."""
    recorder = RangeRecorder(counts(path[0], 2000))
    for index, value in enumerate(path):
        recorder.add(counts(value % 4096, 2000 + 200 * (index % 2)))
    return recorder


@given(st.integers(0, 4095), st.integers(-2047, 2047))
def test_the_shortest_way_is_found_across_the_seam(start, move) -> None:
    assert shortest_way(counts(start), counts((start + move) % 4096))[0] == move


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=30), st.integers(0, 4095))
def test_a_range_is_that_of_the_path_wherever_its_seam_lies(moves, start) -> None:
    """The recorder sees counts modulo one turn; the path itself is what it must find."""
    path = start + np.concatenate([[0], np.cumsum(moves)])
    seen = recorded(*path).range
    assert (seen.low[0], seen.high[0]) == (path.min(), path.max())


def test_a_range_that_cannot_be_used_says_why() -> None:
    assert recorded(1000, 1900, 3000).complaint(NAMES, 0.0) == ""
    assert "(servo 1) moved by less than 10 degrees" in recorded(1000, 1010).complaint(NAMES, 0.0)
    whole, pose = recorded(1000, 2000), counts(2500, 2000)
    assert "base (servo 1) did not come to where" in whole.complaint(NAMES, 0.0, pose)
    assert whole.complaint(NAMES, 0.0, counts(2040, 1960)) == ""
    assert "moved by less than 21 degrees" in recorded(1000, 1200).complaint(NAMES, 0.1)
    whole = recorded(*range(0, 4600, 500)).complaint(NAMES, 0.0)
    assert "base (servo 1) went round by a whole turn" in whole


@given(st.integers(0, 4095), st.integers(200, 4000), st.integers(0, 4095))
def test_a_seam_is_moved_out_of_a_range_and_poses_with_it(start, size, pose) -> None:
    seen = Range(counts(start), counts(start + size))
    shift = recentring(seen)
    low, high = seen.low - shift, seen.high - shift
    if start + size <= 4095:
        assert not shift[0]
    else:
        assert abs((low + high)[0] / 2 - 2048) <= 0.5
    there = beside(counts(pose), seen)
    assert there[0] % 4096 == pose and abs(there[0] - (start + size / 2)) <= 2048


def test_a_direction_is_that_of_the_joint_that_was_to_move() -> None:
    before = counts(2000, 2000)
    assert direction_of(0, before, counts(2100, 2010), NAMES) == 1
    assert direction_of(1, before, counts(2010, 1900), NAMES) == -1
    assert direction_of(0, counts(4050, 0), counts(50, 0), NAMES) == 1
    with pytest.raises(ValueError, match=r"base \(servo 1\) moved by 0\.9 degrees.*least 5"):
        direction_of(0, before, counts(2010, 2000), NAMES)
    with pytest.raises(ValueError, match=r"lift \(servo 2\) moved, expected base \(servo 1\)"):
        direction_of(0, before, counts(2100, 2400), NAMES)


def test_a_pose_is_the_median_of_a_still_arm_and_nothing_of_a_moving_one() -> None:
    still = [counts(4095, 10), counts(0, 11), counts(1, 10)]
    np.testing.assert_array_equal(steady(still), [0, 10])
    assert steady([counts(0, 0), counts(0, 40)]) is None


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_limits_stay_inside_of_what_was_seen(direction) -> None:
    seen, zero = Range(counts(1000), counts(3500)), counts(2048)
    low, high = proposed_limits(seen, zero, counts(direction), 0.05)
    reach = np.sort(direction * (np.array([1000, 3500]) - 2048) * TICK)
    assert reach[0] + 0.05 <= low[0] < reach[0] + 0.053
    assert reach[1] - 0.053 < high[0] <= reach[1] - 0.05
    # Without a margin, the goals at the limits are still counts that the joint has been at.
    low, high = proposed_limits(seen, zero, counts(direction), 0.0)
    goals = np.rint(direction * np.array([low[0], high[0]]) / TICK + 2048)
    assert goals.min() >= 1000 and goals.max() <= 3500
