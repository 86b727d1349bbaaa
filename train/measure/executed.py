"""Which actions a policy's plans were executed, by episode, and how smooth they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...decoding import ActionTrajectory, Observation, ObservationSpec, Policy
from ...decoding.interface import ActionSpec, Observing
from ...envs.rollout import Evaluation


class Watched:
    """A policy whose executed actions are kept, by the seed of their episode.

    It stands in for the policy wherever that is run without latency, and changes nothing.

    Args:
        policy: Whom to watch.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._seeds: dict[int, int] = {}
        self._executed: dict[int, list[np.ndarray]] = {}

    @property
    def action_spec(self) -> ActionSpec:
        """The policy's own."""
        return self._policy.action_spec

    @property
    def observation_spec(self) -> ObservationSpec:
        """The policy's own."""
        return self._policy.observation_spec

    @property
    def num_execute(self) -> int:
        """The policy's own."""
        return self._policy.num_execute

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`; see `Policy.reset`."""
        restarted = range(len(seeds)) if rows is None else rows.tolist()
        self._seeds |= dict(zip(restarted, seeds.tolist(), strict=True))
        self._executed |= {seed: [] for seed in seeds.tolist()}
        self._policy.reset(seeds, rows)

    def observe(self, observation: Observation) -> None:
        """Use the time between plans, if the policy does; see `Observing.observe`."""
        if isinstance(self._policy, Observing):
            self._policy.observe(observation)

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Plan, and keep what an `Executor` takes from the plan; see `Policy.plan`."""
        plan = self._policy.plan(observation, step)
        begins = (step - plan.first_step).tolist()
        for index, (begin, num_ready) in enumerate(
            zip(begins, plan.num_ready.tolist(), strict=True)
        ):
            taken = plan.actions[index, begin : min(num_ready, begin + self.num_execute)]
            self._executed[self._seeds[int(observation.rows[index])]].append(taken.copy())
        return plan

    def episodes(self, evaluation: Evaluation) -> list[np.ndarray]:
        """Executed actions of each episode of an evaluation, physical units, shape (T, D)."""
        return [
            np.concatenate(self._executed[episode.seed])[: episode.num_steps]
            for episode in evaluation.episodes
        ]


def rms_jerk(episodes: Sequence[np.ndarray], spec: ActionSpec) -> float:
    """Root mean square of the third derivative of executed actions, in half ranges per s^3.

    Args:
        episodes: Actions of each episode, physical units, shape (T, D); those of fewer than four
            steps have none.
        spec: Range and period of the actions.

    Returns:
        NaN where no episode has four steps.
    """
    scale = np.subtract(spec.high, spec.low) / 2 * spec.dt**3
    third = [np.diff(actions, 3, axis=0) / scale for actions in episodes if len(actions) > 3]
    return float(np.sqrt(np.mean(np.concatenate(third) ** 2))) if third else float("nan")
