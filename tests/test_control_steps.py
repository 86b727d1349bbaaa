"""A policy's control steps on a robot whose time goes on, whatever the policy does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.decoding import ActionSpec, ActionTrajectory, ObservationSpec
from hotloop.real_robot.policies.control_steps import ControlSteps

DT = 0.1


class Counter:
    """Action k is k; its observations are kept.

    Args:
        num_ready: Valid actions of each plan in turn, over and over.
    """

    observation_spec = ObservationSpec({"observation.state": (1,), "picture": (1, 1, 3)}, 3)
    action_spec = ActionSpec(("step",), (0.0,), (1e6,), DT)

    def __init__(self, num_execute: int = 3, num_ready: tuple[int, ...] = (8,)) -> None:
        self.num_execute, self.num_ready = num_execute, num_ready
        self.seen: list[dict[str, np.ndarray]] = []

    def reset(self, seeds, rows=None) -> None:
        self.seen.clear()

    def plan(self, observation, step) -> ActionTrajectory:
        valid = np.arange(8)[None] < self.num_ready[len(self.seen) % len(self.num_ready)]
        self.seen.append(dict(observation.frames))
        actions = (step[:, None] + np.arange(8.0)[None])[..., None]
        return ActionTrajectory(actions, step, observation.step, DT, np.zeros(valid.shape), valid)


def frame(value: float, picture: int = 0) -> dict[str, np.ndarray]:
    return {
        "observation.state": np.array([value], np.float32),
        "picture": np.full((1, 1, 3), picture, np.uint8),
    }


def started(policy: Counter, latency: int = 0) -> ControlSteps:
    steps = ControlSteps(policy, latency)
    steps.reset(0)
    return steps


@given(
    gaps=st.lists(st.integers(1, 6), min_size=1, max_size=12),
    jitter=st.lists(st.floats(-0.04, 0.04), min_size=12, max_size=12),
    num_execute=st.integers(1, 5),
    latency=st.integers(0, 3),
)
def test_every_action_keeps_its_own_time(gaps, jitter, num_execute, latency) -> None:
    """However late a policy is, action k is due when step k ends: nothing is stretched."""
    steps = started(Counter(num_execute), latency)
    times = np.cumsum([0, *gaps]) * DT
    for time, late in zip(times, [0.0, *jitter], strict=False):
        schedule = steps.act(50.0 + time + late, frame(0.0))
        due = steps.due(schedule)
        np.testing.assert_allclose(schedule.actions[0, :, 0], (due - 50.0) / DT - 1, atol=1e-9)
        present = schedule.observed_step[0] - schedule.first_step[0]
        assert schedule.actions[0, present, 0] == round(time / DT)
        assert schedule.horizon - present > latency
        assert (np.diff(due) > 0).all()


def test_a_step_that_is_not_due_sends_nothing() -> None:
    steps = started(Counter())
    assert steps.act(1.0, frame(0.0)) is not None
    assert steps.act(1.04, frame(0.0)) is None
    assert steps.act(1.08, frame(0.0)).actions[0, -1, 0] == 2


def test_the_history_has_the_policys_period_although_steps_were_missed() -> None:
    policy = Counter(num_execute=1)
    steps = started(policy)
    steps.act(0.0, frame(0.0, picture=1))
    steps.act(0.1, frame(1.0, picture=2))
    steps.act(0.4, frame(4.0, picture=3))
    np.testing.assert_allclose(policy.seen[-1]["observation.state"][0, :, 0], [2, 3, 4])
    np.testing.assert_array_equal(policy.seen[-1]["picture"][0, :, 0, 0, 0], [3, 3, 3])
    assert len(policy.seen) == 3, "nothing is planned for steps that are over"


def test_only_valid_actions_are_handed_out_and_none_is_nothing() -> None:
    """A token chunk of which only a part is verified, and one of which nothing is."""
    steps = started(Counter(num_execute=8, num_ready=(2, 0, 8)))
    assert steps.act(0.0, frame(0.0)).actions[0, :, 0].tolist() == [0, 1]
    assert steps.act(0.1, frame(1.0)).actions[0, :, 0].tolist() == [0, 1]
    assert steps.act(0.2, frame(2.0)) is None
    later = steps.act(0.3, frame(3.0))
    assert later.horizon == 8 and later.first_step == later.observed_step == 2
    assert steps.due(later)[0] == pytest.approx(0.3 + DT), "a step that was waited for is no step"


def test_a_chunk_that_would_not_fit_into_a_message_is_cut() -> None:
    class Long(Counter):
        def plan(self, observation, step) -> ActionTrajectory:
            return ActionTrajectory.clean(np.zeros((1, 500, 1)), step, observation.step, DT)

    steps = started(Long(num_execute=400))
    for time in range(4):
        schedule = steps.act(time * DT, frame(0.0))
    assert schedule.horizon < 128
