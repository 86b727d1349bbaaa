"""The contract of `hotloop.decoding.Policy` as tests, to be inherited for every policy.

    class TestMyPolicy(PolicyConformance):
        @pytest.fixture
        def policy(self):
            return MyPolicy(...)

The fixture may be parametrised and may be shared by the class: every test resets the policy.
"""

from __future__ import annotations

import numpy as np
import pytest

from hotloop.decoding import (
    ActionSpec,
    ActionTrajectory,
    Executor,
    Observation,
    ObservationSpec,
    Policy,
)

SEEDS = np.array([11, 12, 13, 14])


class PolicyConformance:
    """Every policy passes these tests; see the module's docstring for how to apply them.

    Attributes:
        observation_range: Frames are drawn uniformly from it, the same for every key.
        tolerance: Admissible difference between batch sizes, as a share of the action's range.
        num_plans: Consecutive plans that are looked at.
    """

    observation_range: tuple[float, float] = (0.0, 1.0)
    tolerance: float = 1e-4
    num_plans: int = 3

    @pytest.fixture
    def policy(self) -> Policy:
        raise NotImplementedError("override the fixture `policy`")

    def frame(self, policy: Policy, scenes: np.ndarray, steps: np.ndarray) -> dict[str, np.ndarray]:
        """Frames (R, *shape) of the given scenes; scene and step alone determine a frame."""
        drawn: dict[str, list[np.ndarray]] = {key: [] for key in policy.observation_spec.shapes}
        for scene, step in zip(scenes, steps, strict=True):
            rng = np.random.default_rng([scene, step])
            for key, shape in policy.observation_spec.shapes.items():
                drawn[key].append(rng.uniform(*self.observation_range, shape))
        return {key: np.stack(values).astype(np.float32) for key, values in drawn.items()}

    def observation(
        self, policy: Policy, scenes: np.ndarray, step: np.ndarray, rows: np.ndarray
    ) -> Observation:
        num_steps = policy.observation_spec.num_steps
        history = [
            self.frame(policy, scenes, np.maximum(step - age, 0))
            for age in reversed(range(num_steps))
        ]
        frames = {key: np.stack([one[key] for one in history], axis=1) for key in history[0]}
        return Observation(frames, step, rows)

    def plan(
        self, policy: Policy, step: np.ndarray, rows: np.ndarray, scenes: np.ndarray | None = None
    ) -> ActionTrajectory:
        scenes = rows if scenes is None else scenes
        return policy.plan(self.observation(policy, scenes, step.copy(), rows), step.copy())

    def next_step(self, policy: Policy, plan: ActionTrajectory, step: np.ndarray) -> np.ndarray:
        return step + np.minimum(plan.num_ready - (step - plan.first_step), policy.num_execute)

    def plans(
        self, policy: Policy, seeds: np.ndarray, scenes: np.ndarray
    ) -> list[ActionTrajectory]:
        """Reset one row per seed and return consecutive plans, each executed as far as meant."""
        policy.reset(seeds)
        rows, step = np.arange(len(seeds)), np.zeros(len(seeds), np.int64)
        plans = []
        for _ in range(self.num_plans):
            plans.append(self.plan(policy, step, rows, scenes))
            step = self.next_step(policy, plans[-1], step)
        return plans

    def assert_close(
        self, policy: Policy, actual: ActionTrajectory, desired: ActionTrajectory
    ) -> None:
        """Same ready actions, up to the rounding of a matrix product of another batch size."""
        np.testing.assert_array_equal(actual.first_step, desired.first_step)
        np.testing.assert_array_equal(actual.ready, desired.ready)
        width = np.subtract(policy.action_spec.high, policy.action_spec.low)
        difference = np.abs(actual.actions - desired.actions)[desired.ready] / width
        assert (difference <= self.tolerance).all(), f"largest difference {difference.max()}"

    def test_it_satisfies_the_protocol(self, policy: Policy) -> None:
        assert isinstance(policy, Policy)
        assert policy.num_execute >= 1
        assert policy.observation_spec.num_steps >= 1

    def test_a_plan_has_the_rows_size_and_period_that_were_asked_for(self, policy: Policy) -> None:
        policy.reset(SEEDS)
        rows, step = np.arange(4), np.zeros(4, np.int64)
        plan = self.plan(policy, step, rows)
        assert plan.actions.shape == (4, plan.horizon, policy.action_spec.size)
        assert plan.dt == policy.action_spec.dt
        assert np.issubdtype(plan.first_step.dtype, np.integer)
        assert (plan.observed_step <= step).all()
        assert ((plan.noise_level >= 0) & (plan.noise_level <= 1)).all()

    def test_the_first_action_that_is_needed_is_covered_and_ready(self, policy: Policy) -> None:
        policy.reset(SEEDS)
        rows, step = np.arange(4), np.zeros(4, np.int64)
        for _ in range(self.num_plans):
            plan = self.plan(policy, step, rows)
            offset = step - plan.first_step
            assert ((offset >= 0) & (offset < plan.horizon)).all()
            assert plan.ready[rows, offset].all()
            step = self.next_step(policy, plan, step)

    def test_ready_actions_are_inside_the_action_spec(self, policy: Policy) -> None:
        for plan in self.plans(policy, SEEDS, np.arange(4)):
            policy.action_spec.check(plan.actions[plan.ready])

    def test_the_same_seeds_give_the_same_plans(self, policy: Policy) -> None:
        first = self.plans(policy, SEEDS, np.arange(4))
        second = self.plans(policy, SEEDS, np.arange(4))
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one.actions, other.actions)
            np.testing.assert_array_equal(one.ready, other.ready)

    def test_resetting_twice_is_resetting_once(self, policy: Policy) -> None:
        rows, step = np.arange(4), np.zeros(4, np.int64)
        policy.reset(SEEDS)
        once = self.plan(policy, step, rows)
        policy.reset(SEEDS + 100)
        policy.reset(SEEDS, rows)
        policy.reset(SEEDS, rows)
        twice = self.plan(policy, step, rows)
        np.testing.assert_array_equal(once.actions, twice.actions)

    def test_a_row_plans_the_same_alone_as_among_others(self, policy: Policy) -> None:
        together = self.plans(policy, SEEDS, np.arange(4))
        for row in range(4):
            alone = self.plans(policy, SEEDS[[row]], np.array([row]))
            for one, all_rows in zip(alone, together, strict=True):
                self.assert_close(policy, one, all_rows.select(np.array([row])))

    def test_any_rows_can_be_planned_for_in_any_order(self, policy: Policy) -> None:
        expected = self.plans(policy, SEEDS, np.arange(4))[0]
        policy.reset(SEEDS)
        step = np.zeros(2, np.int64)
        for rows in (np.array([3, 1]), np.array([0, 2])):
            self.assert_close(policy, self.plan(policy, step, rows), expected.select(rows))

    def test_resetting_a_row_restarts_it_and_leaves_the_others_alone(self, policy: Policy) -> None:
        undisturbed = self.plans(policy, SEEDS, np.arange(4))
        fresh = self.plans(policy, np.array([99]), np.array([1]))
        policy.reset(SEEDS)
        rows, others = np.arange(4), np.array([0, 2, 3])
        first = self.plan(policy, np.zeros(4, np.int64), rows)
        policy.reset(np.array([99]), np.array([1]))
        step = self.next_step(policy, first, np.zeros(4, np.int64))
        step[1] = 0
        second = self.plan(policy, step, rows)
        self.assert_close(policy, second.select(others), undisturbed[1].select(others))
        self.assert_close(policy, second.select(np.array([1])), fresh[0])

    def test_its_inputs_are_not_changed(self, policy: Policy) -> None:
        rows, step, seeds = np.arange(4), np.zeros(4, np.int64), SEEDS.copy()
        observation = self.observation(policy, rows, step, rows)
        frames = {key: values.copy() for key, values in observation.frames.items()}
        policy.reset(seeds)
        policy.plan(observation, step)
        np.testing.assert_array_equal(seeds, SEEDS)
        np.testing.assert_array_equal(step, 0)
        np.testing.assert_array_equal(rows, np.arange(4))
        for key, values in frames.items():
            np.testing.assert_array_equal(observation.frames[key], values)

    def test_a_plan_outlives_the_next_one(self, policy: Policy) -> None:
        policy.reset(SEEDS)
        rows, step = np.arange(4), np.zeros(4, np.int64)
        first = self.plan(policy, step, rows)
        actions, first_step = first.actions.copy(), first.first_step.copy()
        self.plan(policy, self.next_step(policy, first, step), rows)
        np.testing.assert_array_equal(first.actions, actions)
        np.testing.assert_array_equal(first.first_step, first_step)

    def test_a_plan_can_be_made_ahead_of_its_execution(self, policy: Policy) -> None:
        policy.reset(SEEDS)
        rows, start = np.arange(4), np.zeros(4, np.int64)
        step = self.next_step(policy, self.plan(policy, start, rows), start)
        plan = policy.plan(self.observation(policy, rows, step - 1, rows), step)
        offset = step - plan.first_step
        assert ((offset >= 0) & (offset < plan.horizon)).all()
        assert plan.ready[rows, offset].all()
        assert (plan.observed_step <= step - 1).all()

    @pytest.mark.parametrize("latency", [0, 1])
    def test_the_executor_can_run_it(self, policy: Policy, latency: int) -> None:
        executor = Executor(policy, latency=latency)
        executor.reset(SEEDS)
        for step in range(2 * policy.num_execute + 1):
            actions = executor.act(self.frame(policy, np.arange(4), np.full(4, step)))
            assert np.isfinite(actions).all()
        assert executor.num_plans >= 2


class NoisyHold:
    """The smallest policy with state per row: aims at where it is, plus noise of its seed."""

    num_execute = 3
    horizon = 6

    def __init__(self, noise: float = 0.1, low: float = -1.0, high: float = 2.0) -> None:
        self.action_spec = ActionSpec(("x [m]", "y [m]"), (low, low), (high, high), dt=0.1)
        self.observation_spec = ObservationSpec({"observation.state": (2,)}, num_steps=2)
        self.noise = noise
        self.generators: dict[int, np.random.Generator] = {}

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        rows = np.arange(len(seeds)) if rows is None else rows
        for row, seed in zip(rows, seeds, strict=True):
            self.generators[int(row)] = np.random.default_rng(seed)

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        newest = observation.frames["observation.state"][:, -1:]
        noise = np.stack(
            [
                self.generators[int(row)].standard_normal((self.horizon, 2))
                for row in observation.rows
            ]
        )
        spec = self.action_spec
        actions = np.clip(newest + self.noise * noise, spec.low, spec.high)
        return ActionTrajectory.clean(actions, step, observation.step, spec.dt)
