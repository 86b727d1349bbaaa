"""The contract of `Policy` as checks, the way to prove a policy of one's own.

In a script, or without pytest::

    from hotloop.decoding.conformance import check_policy

    check_policy(MyPolicy(...), observation_range=(-1.0, 1.0))

With pytest, every rule is a test of its own; the fixture may be parametrised and may be shared by
the class, as every test resets the policy::

    class TestMyPolicy(PolicyConformance):
        @pytest.fixture
        def policy(self):
            return MyPolicy(...)
"""

from __future__ import annotations

import numpy as np

from .executor import Executor
from .interface import Observation, Observing, Policy
from .trajectory import ActionTrajectory

SEEDS = np.array([11, 12, 13, 14])
ROWS = np.arange(4)


def check_policy(
    policy: Policy,
    observation_range: tuple[float, float] = (0.0, 1.0),
    tolerance: float = 1e-4,
    num_plans: int = 3,
) -> None:
    """Check that `policy` keeps every rule of the contract.

    Args:
        policy: What to check; it is reset again and again.
        observation_range: Numbers are drawn uniformly from it, the same for every key; pictures are
            drawn from all bytes.
        tolerance: Admissible difference between batch sizes, as a share of the action's range.
        num_plans: Consecutive plans that are looked at.

    Raises:
        AssertionError: If a rule is broken; the message names the rule.
    """
    rules = PolicyConformance()
    rules.observation_range, rules.tolerance = observation_range, tolerance
    rules.num_plans = num_plans
    for name in dir(rules):
        if name.startswith("test_"):
            try:
                getattr(rules, name)(policy)
            except AssertionError as error:
                rule = name.removeprefix("test_").replace("_", " ")
                raise AssertionError(f"broken rule: {rule}: {error}") from error


class PolicyConformance:
    """Every policy passes these tests; see the module's docstring for how to apply them.

    Attributes:
        observation_range: Numbers are drawn uniformly from it, the same for every key; pictures are
            drawn from all bytes.
        tolerance: Admissible difference between batch sizes, as a share of the action's range.
        num_plans: Consecutive plans that are looked at.
    """

    observation_range: tuple[float, float] = (0.0, 1.0)
    tolerance: float = 1e-4
    num_plans: int = 3

    def frame(self, policy: Policy, scenes: np.ndarray, steps: np.ndarray) -> dict[str, np.ndarray]:
        """Frames (R, *shape) of the given scenes; scene and step alone determine a frame."""
        spec = policy.observation_spec
        drawn: dict[str, list[np.ndarray]] = {key: [] for key in spec.shapes}
        for scene, step in zip(scenes, steps, strict=True):
            rng = np.random.default_rng([scene, step])
            for key, shape in spec.shapes.items():
                low, high = (0, 256) if key in spec.pictures else self.observation_range
                drawn[key].append(rng.uniform(low, high, shape))
        return {key: np.stack(values).astype(spec.dtype(key)) for key, values in drawn.items()}

    def observation(
        self, policy: Policy, scenes: np.ndarray, step: np.ndarray, rows: np.ndarray
    ) -> Observation:
        """The newest frames at `step`; an episode's first frame stands in for earlier ones."""
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
        """A plan from what is observed at `step`; each row sees the scene of its number."""
        scenes = rows if scenes is None else scenes
        return policy.plan(self.observation(policy, scenes, np.array(step), rows), np.array(step))

    def next_step(self, policy: Policy, plan: ActionTrajectory, step: np.ndarray) -> np.ndarray:
        """When a plan has been executed as far as meant."""
        return step + np.minimum(plan.num_ready - (step - plan.first_step), policy.num_execute)

    def plans(
        self, policy: Policy, seeds: np.ndarray, scenes: np.ndarray
    ) -> list[ActionTrajectory]:
        """Reset one row per seed and return consecutive plans, each executed as far as meant."""
        policy.reset(seeds)
        rows, step = np.arange(len(seeds)), np.zeros(len(seeds), np.int64)
        plans: list[ActionTrajectory] = []
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

    def assert_covered(self, plan: ActionTrajectory, step: np.ndarray) -> None:
        """The plan has a ready action at `step`, in every row."""
        offset = step - plan.first_step
        covered = (offset >= 0) & (offset < plan.horizon)
        assert covered.all(), f"{plan.horizon} steps from {plan.first_step} do not cover {step}"
        ready = plan.ready[np.arange(len(step)), offset]
        assert ready.all(), f"the action at {step} is ready in rows {np.flatnonzero(ready)} only"

    def test_it_satisfies_the_protocol(self, policy: Policy) -> None:
        """All members are there, and the numbers are possible."""
        assert isinstance(policy, Policy), f"{policy!r} lacks a member of hotloop.decoding.Policy"
        assert policy.num_execute >= 1, f"num_execute is {policy.num_execute}"
        num_steps = policy.observation_spec.num_steps
        assert num_steps >= 1, f"observation_spec.num_steps is {num_steps}"

    def test_a_plan_has_the_rows_size_and_period_that_were_asked_for(self, policy: Policy) -> None:
        """Shapes and dtypes of a trajectory."""
        policy.reset(SEEDS)
        step = np.zeros(4, np.int64)
        plan = self.plan(policy, step, ROWS)
        expected = (4, plan.horizon, policy.action_spec.size)
        assert plan.actions.shape == expected, f"actions are {plan.actions.shape}, not {expected}"
        assert plan.dt == policy.action_spec.dt, f"dt {plan.dt} is not {policy.action_spec.dt}"
        assert np.issubdtype(plan.first_step.dtype, np.integer), "first_step is no integer"
        assert (plan.observed_step <= step).all(), "a plan comes from an observation of the future"
        levels = plan.noise_level
        assert ((levels >= 0) & (levels <= 1)).all(), "noise_level is not between 0 and 1"

    def test_the_first_action_that_is_needed_is_covered_and_ready(self, policy: Policy) -> None:
        """In every plan, so that an executor never waits."""
        policy.reset(SEEDS)
        step = np.zeros(4, np.int64)
        for _ in range(self.num_plans):
            plan = self.plan(policy, step, ROWS)
            self.assert_covered(plan, step)
            step = self.next_step(policy, plan, step)

    def test_ready_actions_are_inside_the_action_spec(self, policy: Policy) -> None:
        """Nobody clips them later."""
        for plan in self.plans(policy, SEEDS, ROWS):
            try:
                policy.action_spec.check(plan.actions[plan.ready])
            except ValueError as error:
                raise AssertionError(str(error)) from error

    def test_the_same_seeds_give_the_same_plans(self, policy: Policy) -> None:
        """Bit for bit."""
        first = self.plans(policy, SEEDS, ROWS)
        second = self.plans(policy, SEEDS, ROWS)
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one.actions, other.actions)
            np.testing.assert_array_equal(one.ready, other.ready)

    def test_resetting_twice_is_resetting_once(self, policy: Policy) -> None:
        """And the last seeds count."""
        step = np.zeros(4, np.int64)
        policy.reset(SEEDS)
        once = self.plan(policy, step, ROWS)
        policy.reset(SEEDS + 100)
        policy.reset(SEEDS, ROWS)
        policy.reset(SEEDS, ROWS)
        twice = self.plan(policy, step, ROWS)
        np.testing.assert_array_equal(once.actions, twice.actions)

    def test_a_row_plans_the_same_alone_as_among_others(self, policy: Policy) -> None:
        """A row depends on its seed and observations alone."""
        together = self.plans(policy, SEEDS, ROWS)
        for row in range(4):
            alone = self.plans(policy, SEEDS[[row]], np.array([row]))
            for one, all_rows in zip(alone, together, strict=True):
                self.assert_close(policy, one, all_rows.select(np.array([row])))

    def test_any_rows_can_be_planned_for_in_any_order(self, policy: Policy) -> None:
        """A call may carry any subset of the rows."""
        expected = self.plans(policy, SEEDS, ROWS)[0]
        policy.reset(SEEDS)
        step = np.zeros(2, np.int64)
        for rows in (np.array([3, 1]), np.array([0, 2])):
            self.assert_close(policy, self.plan(policy, step, rows), expected.select(rows))

    def test_resetting_a_row_restarts_it_and_leaves_the_others_alone(self, policy: Policy) -> None:
        """Rows are at different steps of their episodes."""
        undisturbed = self.plans(policy, SEEDS, ROWS)
        fresh = self.plans(policy, np.array([99]), np.array([1]))
        policy.reset(SEEDS)
        others = np.array([0, 2, 3])
        first = self.plan(policy, np.zeros(4, np.int64), ROWS)
        policy.reset(np.array([99]), np.array([1]))
        step = self.next_step(policy, first, np.zeros(4, np.int64))
        step[1] = 0
        second = self.plan(policy, step, ROWS)
        self.assert_close(policy, second.select(others), undisturbed[1].select(others))
        self.assert_close(policy, second.select(np.array([1])), fresh[0])

    def test_its_inputs_are_not_changed(self, policy: Policy) -> None:
        """Whoever calls may go on using them."""
        rows, step, seeds = np.arange(4), np.zeros(4, np.int64), np.array(SEEDS)
        observation = self.observation(policy, rows, step, rows)
        frames = {key: np.array(values) for key, values in observation.frames.items()}
        policy.reset(seeds)
        policy.plan(observation, step)
        np.testing.assert_array_equal(seeds, SEEDS)
        np.testing.assert_array_equal(step, 0)
        np.testing.assert_array_equal(rows, np.arange(4))
        for key, values in frames.items():
            np.testing.assert_array_equal(observation.frames[key], values)

    def test_a_plan_outlives_the_next_one(self, policy: Policy) -> None:
        """Its arrays are its own."""
        policy.reset(SEEDS)
        step = np.zeros(4, np.int64)
        first = self.plan(policy, step, ROWS)
        actions, first_step = np.array(first.actions), np.array(first.first_step)
        self.plan(policy, self.next_step(policy, first, step), ROWS)
        np.testing.assert_array_equal(first.actions, actions)
        np.testing.assert_array_equal(first.first_step, first_step)

    def test_a_plan_can_be_made_ahead_of_its_execution(self, policy: Policy) -> None:
        """From the observation of the step before."""
        policy.reset(SEEDS)
        start = np.zeros(4, np.int64)
        step = self.next_step(policy, self.plan(policy, start, ROWS), start)
        plan = policy.plan(self.observation(policy, ROWS, step - 1, ROWS), step)
        self.assert_covered(plan, step)
        assert (plan.observed_step <= step - 1).all(), "it says that it saw what was not there yet"

    def test_frames_seen_between_plans_change_no_plan(self, policy: Policy) -> None:
        """Of a policy that is `Observing`: it saves work with them, or makes no use of them."""
        if not isinstance(policy, Observing):
            return
        expected = self.plans(policy, SEEDS, ROWS)
        policy.reset(SEEDS)
        step = np.zeros(4, np.int64)
        for unseen in expected:
            plan = self.plan(policy, step, ROWS)
            self.assert_close(policy, plan, unseen)
            step = self.next_step(policy, plan, step)
            policy.observe(self.observation(policy, ROWS, step - 1, ROWS))

    def test_the_executor_can_run_it(self, policy: Policy) -> None:
        """Without and with a latency of one control step."""
        for latency in (0, 1):
            executor = Executor(policy, latency=latency)
            executor.reset(SEEDS)
            for step in range(2 * policy.num_execute + 1):
                actions = executor.act(self.frame(policy, ROWS, np.full(4, step)))
                assert np.isfinite(actions).all(), f"step {step} gave {actions}"
            assert executor.num_plans >= 2, f"{executor.num_plans} plans were made"
