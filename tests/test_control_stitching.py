"""From many chunks to one reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from robots import chunk

from hotloop.real_robot.core.stitcher import StitchConfig, Stitcher
from hotloop.real_robot.core.trajectory import Curve


def stitched(blend: str, *values: float, **changes: float) -> Stitcher:
    """Constant chunks of 1 s, started 0.2 s after each other from time 0."""
    stitcher = Stitcher(StitchConfig(blend=blend, **changes))
    for number, value in enumerate(values):
        start = 0.2 * number
        times = start + np.arange(11) * 0.1
        stitcher.add(chunk(number, start, np.full((11, 1), value), times=times), start)
    return stitcher


@given(st.lists(st.floats(-2, 2), min_size=12, max_size=12), st.floats(-0.5, 4))
def test_a_curve_passes_its_waypoints_with_a_velocity_that_is_its_derivative(values, time) -> None:
    times = np.cumsum([0.0, 0.3, 0.1, 0.5, 0.7, 0.2])
    curve = Curve(times, np.reshape(values, (6, 2)))
    for t, waypoint in zip(times, np.reshape(values, (6, 2)), strict=True):
        np.testing.assert_allclose(curve.at(t)[0], waypoint, atol=1e-12)
    if times[0] < time < times[-1] and np.abs(times - time).min() > 1e-4:
        ahead, behind = np.array(curve.at(time + 1e-6)[0]), np.array(curve.at(time - 1e-6)[0])
        np.testing.assert_allclose((ahead - behind) / 2e-6, curve.at(time)[1], atol=1e-3)


def test_a_curve_reproduces_uniform_motion_exactly_and_rests_outside() -> None:
    times = np.array([0.0, 0.1, 0.3, 0.6])
    curve = Curve(times, 2 * times[:, None])
    position, velocity = curve.at(0.2)
    assert (position[0], velocity[0]) == pytest.approx((0.4, 2.0))
    for outside in (-1.0, 0.6, 5.0):
        assert curve.at(outside)[1] == [0]


def test_replace_takes_the_newest_chunk_from_its_first_time_on() -> None:
    stitcher = stitched("replace", 1.0, 2.0)
    assert [stitcher.at(time)[0][0] for time in (0.1, 0.199, 0.2, 0.9)] == [1, 1, 2, 2]


def test_a_chunk_for_later_leaves_the_present_one_in_charge_until_then() -> None:
    stitcher = stitched("replace", 1.0)
    stitcher.add(chunk(5, 0.1, [[7.0]] * 3, times=0.5 + np.arange(3) * 0.1), 0.1)
    assert [stitcher.at(time)[0][0] for time in (0.2, 0.49, 0.5)] == [1, 1, 7]


def test_a_newer_chunk_replaces_those_planned_for_later() -> None:
    stitcher = stitched("replace", 1.0)
    stitcher.add(chunk(5, 0.1, [[7.0]] * 3, times=0.5 + np.arange(3) * 0.1), 0.1)
    stitcher.add(chunk(6, 0.2, [[3.0]] * 9, times=0.3 + np.arange(9) * 0.1), 0.2)
    assert [stitcher.at(time)[0][0] for time in (0.29, 0.31, 0.6)] == [1, 3, 3]


def test_the_chunk_in_charge_stays_however_many_come_for_later() -> None:
    """A full buffer used to drop it, and then the loop had nothing to follow and died."""
    stitcher = stitched("replace", 1.0)
    for number in range(30):
        start = 0.5 + 0.01 * number
        stitcher.add(chunk(number, 0.1, [[7.0]] * 3, times=start + np.arange(3) * 0.1), 0.1)
    assert len(stitcher) == stitcher.config.max_chunks
    assert stitcher.at(0.3)[0][0] == 1.0 and stitcher.at(0.9)[0][0] == 7.0


def test_a_cross_fade_is_smooth_and_ends_at_the_new_chunk() -> None:
    stitcher = stitched("cross-fade", 1.0, 2.0, fade=0.1)
    samples = [stitcher.at(time) for time in np.linspace(0.2, 0.35, 301)]
    values = np.array([position[0] for position, _ in samples])
    assert values[0] == 1 and values[-1] == 2
    assert (np.diff(values) >= 0).all()
    slopes = np.array([velocity[0] for _, velocity in samples])
    np.testing.assert_allclose(np.gradient(values, 0.0005)[2:-2], slopes[2:-2], atol=0.1)


def test_an_ensemble_weighs_the_chunks_as_act_does() -> None:
    stitcher = stitched("ensemble", 1.0, 2.0, 4.0, decay=0.5)
    weights = np.exp(-0.5 * np.arange(3))
    expected = weights @ [1, 2, 4] / weights.sum()
    assert stitcher.at(0.5)[0][0] == pytest.approx(expected)
    # At 1.1 s the first chunk is over.
    expected = weights[:2] @ [2, 4] / weights[:2].sum()
    assert stitcher.at(1.1)[0][0] == pytest.approx(expected)


def test_an_empty_buffer_has_no_answer() -> None:
    stitcher = stitched("replace", 1.0)
    stitcher.clear()
    assert len(stitcher) == 0 and not stitcher.covers(0.5)
    with pytest.raises(LookupError, match="no chunk covers"):
        stitcher.at(0.5)


def test_meaningless_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="blend must be"):
        StitchConfig(blend="average")
    with pytest.raises(ValueError, match="fade must be a positive time"):
        StitchConfig(fade=0.0)
