import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from noisy_hold import NoisyHold

from hotloop.decoding import ActionSpec, ActionTrajectory, Executor, ObservationSpec


class Stamper:
    """A policy whose actions hold row, seed, control step and the step they were planned from.

    Args:
        horizon: Actions per plan.
        num_ready: Ready actions of each plan in turn, over and over.
        lead: Steps by which a plan starts before the step that was asked for, where possible.
    """

    def __init__(self, horizon=8, num_execute=4, num_ready=(8,), lead=0, num_steps=1):
        names, size = ("row", "seed", "step", "observed step"), 1e9
        self.action_spec = ActionSpec(names, (0.0,) * 4, (size,) * 4, dt=0.1)
        self.observation_spec = ObservationSpec({"observation.state": (1,)}, num_steps)
        self.num_execute, self.horizon, self.num_ready, self.lead = (
            num_execute,
            horizon,
            num_ready,
            lead,
        )
        self.seeds: dict[int, int] = {}
        self.observations = []

    def reset(self, seeds, rows=None):
        rows = range(len(seeds)) if rows is None else rows
        self.seeds |= {int(row): int(seed) for row, seed in zip(rows, seeds, strict=True)}

    def plan(self, observation, step):
        num_ready = self.num_ready[len(self.observations) % len(self.num_ready)]
        self.observations.append(observation)
        first = step - np.minimum(step, self.lead)
        steps = first[:, None] + np.arange(self.horizon)
        rows = np.broadcast_to(observation.rows[:, None], steps.shape)
        seeds = np.array([self.seeds[int(row)] for row in observation.rows])[:, None]
        observed = np.broadcast_to(observation.step[:, None], steps.shape)
        actions = np.stack([rows, np.broadcast_to(seeds, steps.shape), steps, observed], axis=-1)
        valid = np.arange(self.horizon) < (step - first)[:, None] + num_ready
        return ActionTrajectory(
            actions.astype(float), first, observation.step, 0.1, np.zeros(steps.shape), valid
        )


def frame(num_rows, value=0.0):
    return {"observation.state": np.full((num_rows, 1), value, np.float32)}


@given(
    num_execute=st.integers(1, 6),
    latency=st.integers(0, 6),
    num_ready=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    lead=st.integers(0, 3),
)
def test_every_action_is_executed_at_its_own_step(num_execute, latency, num_ready, lead):
    """Whatever the chunk lengths: no step is skipped, repeated, or planned too late."""
    policy = Stamper(horizon=12, num_execute=num_execute, num_ready=num_ready, lead=lead)
    executor = Executor(policy, latency=latency)
    executor.reset([7, 8])
    chunk_start, previous = 0, 0
    for step in range(20):
        actions = executor.act(frame(2))
        np.testing.assert_array_equal(actions[:, 0], [0, 1])
        np.testing.assert_array_equal(actions[:, 2], step)
        observed = actions[0, 3]
        # A chunk that starts at step k is planned from the observation of step k - latency.
        if observed != previous:
            chunk_start = step
        previous = observed
        assert observed == max(0, chunk_start - latency)


@given(
    resets=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=10, max_size=25),
    latency=st.integers(0, 3),
    num_execute=st.integers(1, 4),
)
def test_rows_are_reset_each_at_its_own_time(resets, latency, num_execute):
    policy = Stamper(num_execute=num_execute)
    executor = Executor(policy, latency=latency)
    seeds, steps = np.array([100, 200, 300]), np.zeros(3, int)
    executor.reset(seeds)
    for reset in np.array(resets):
        actions = executor.act(frame(3))
        np.testing.assert_array_equal(actions[:, :3].T, [np.arange(3), seeds, steps])
        steps += 1
        if reset.any():
            seeds, steps = seeds + reset, np.where(reset, 0, steps)
            executor.reset(seeds[reset], np.flatnonzero(reset))


def test_some_rows_can_act_while_others_wait():
    executor = Executor(Stamper())
    executor.reset([1, 2, 3])
    executor.act(frame(3))
    actions = executor.act(frame(2), np.array([2, 0]))
    np.testing.assert_array_equal(actions[:, [0, 2]], [[2, 1], [0, 1]])
    actions = executor.act(frame(3))
    np.testing.assert_array_equal(actions[:, 2], [2, 1, 2])


def test_it_plans_only_when_its_actions_run_out():
    executor = Executor(Stamper(), num_execute=4)
    executor.reset([1])
    for _ in range(12):
        executor.act(frame(1))
    assert executor.num_plans == 3


def test_a_chunk_that_converged_late_is_executed_as_far_as_it_is_ready():
    executor = Executor(Stamper(num_ready=(2, 4)), num_execute=4)
    executor.reset([1])
    observed = [executor.act(frame(1))[0, 3] for _ in range(6)]
    assert observed == [0, 0, 2, 2, 2, 2]


def test_rows_of_one_plan_may_be_ready_to_different_lengths():
    class Uneven(Stamper):
        def plan(self, observation, step):
            plan = super().plan(observation, step)
            plan.valid[observation.rows == 1, 1:] = False
            return plan

    executor = Executor(Uneven(num_execute=3))
    executor.reset([1, 2])
    observed = [executor.act(frame(2))[:, 3].tolist() for _ in range(4)]
    assert observed == [[0, 0], [0, 1], [0, 2], [3, 3]]


def test_the_first_frame_stands_in_for_the_ones_before_it():
    policy = Stamper(num_execute=1, num_steps=3)
    executor = Executor(policy)
    executor.reset([1, 2])
    for value in (5.0, 6.0):
        executor.act(frame(2, value))
    executor.reset([3], np.array([1]))
    executor.act(frame(2, 7.0))
    history = [one.frames["observation.state"][..., 0].tolist() for one in policy.observations]
    assert history[0] == [[5, 5, 5], [5, 5, 5]]
    assert history[1] == [[5, 5, 6], [5, 5, 6]]
    assert history[2] == [[5, 6, 7], [7, 7, 7]]


def test_the_history_holds_the_newest_frames_also_between_plans():
    policy = Stamper(num_execute=4, num_steps=2)
    executor = Executor(policy)
    executor.reset([1])
    for value in range(5):
        executor.act(frame(1, value))
    np.testing.assert_array_equal(
        policy.observations[1].frames["observation.state"][0, :, 0], [3, 4]
    )
    assert policy.observations[1].step == 4


def test_a_reset_without_rows_may_change_their_number():
    executor = Executor(Stamper())
    executor.reset([1, 2])
    executor.act(frame(2))
    executor.reset([4, 5, 6])
    actions = executor.act(frame(3))
    np.testing.assert_array_equal(actions[:, 1:3], [[4, 0], [5, 0], [6, 0]])


def test_the_first_plan_is_waited_for_whatever_the_latency():
    executor = Executor(Stamper(), num_execute=2, latency=3)
    executor.reset([1])
    observed = [executor.act(frame(1))[0, 3] for _ in range(8)]
    assert observed == [0, 0, 0, 0, 1, 1, 3, 3]


def test_a_plan_with_nan_is_executed_up_to_it_and_then_refused():
    class Nan(NoisyHold):
        def plan(self, observation, step):
            plan = super().plan(observation, step)
            plan.actions[plan.first_step[:, None] + np.arange(plan.horizon) >= 2] = np.nan
            return plan

    executor = Executor(Nan())
    executor.reset([1])
    state = {"observation.state": np.zeros((1, 2), np.float32)}
    assert np.isfinite([executor.act(state), executor.act(state)]).all()
    with pytest.raises(ValueError, match="no ready action at step 2 in row 0"):
        executor.act(state)


def test_an_action_out_of_bounds_is_refused():
    class Wild(NoisyHold):
        def plan(self, observation, step):
            plan = super().plan(observation, step)
            plan.actions[:] = 50.0
            return plan

    executor = Executor(Wild())
    executor.reset([1])
    with pytest.raises(ValueError, match=r"'x \[m\]' = 50.0 .* is outside"):
        executor.act({"observation.state": np.zeros((1, 2), np.float32)})


def test_more_actions_than_a_plan_holds_are_not_invented():
    executor = Executor(Stamper(horizon=4), num_execute=10)
    executor.reset([1])
    for step in range(9):
        assert executor.act(frame(1))[0, 2] == step


def test_a_plan_that_does_not_reach_the_asked_step_is_refused():
    class Stale(Stamper):
        def plan(self, observation, step):
            return super().plan(observation, observation.step)

    executor = Executor(Stale(horizon=3, num_execute=3), latency=5)
    executor.reset([1])
    with pytest.raises(ValueError, match="but step 3 was asked for"):
        executor.act(frame(1))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({}, "'observation.state' is missing"),
        ({"observation.state": np.zeros((2, 5), np.float32)}, r"must have shape \(rows, 1\)"),
        (frame(3), "3 entries for 2 rows"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused(bad, message):
    executor = Executor(Stamper())
    executor.reset([1, 2])
    with pytest.raises(ValueError, match=message):
        executor.act(bad)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_execute": 0}, "num_execute must be at least 1, got 0"),
        ({"latency": -1}, "latency must be 0 or more control steps, got -1"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Executor(Stamper(), **arguments)


def test_what_comes_before_its_time_is_refused_in_one_sentence():
    """It was an IndexError from the depths of numpy."""
    executor = Executor(Stamper())
    for early in (
        lambda: executor.act(frame(0)),
        lambda: executor.skip(frame(0)),
        lambda: executor.upcoming(),
        lambda: executor.reset([1], np.array([0])),
    ):
        with pytest.raises(ValueError, match=r"no episode has begun; call reset\(seeds\)"):
            early()
    executor.reset([1, 2])
    for rows in (np.array([0, 2]), np.array([-1])):
        with pytest.raises(ValueError, match="rows must be between 0 and 1"):
            executor.act(frame(0), rows)


@given(num_execute=st.integers(1, 6), latency=st.integers(0, 4), num_steps=st.integers(1, 4))
def test_frames_that_no_plan_is_made_from_are_known_before_they_come(
    num_execute, latency, num_steps
):
    policy = Stamper(12, num_execute, num_ready=(12, 7), num_steps=num_steps)
    executor = Executor(policy, latency=latency)
    executor.reset([0])
    announced = {0}
    for step in range(20):
        executor.act(frame(1, step))
        if executor.reads_next() == [True]:
            announced.add(step + 1)
    read = {int(v) for seen in policy.observations for v in seen.frames["observation.state"].flat}
    last = int(policy.observations[-1].step[0])
    assert {step for step in announced if step <= last} == read
