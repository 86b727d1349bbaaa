"""How inference and motion share time: wait for each plan, or plan while moving.

Planning while moving is `decoding.Executor` with a latency: the plan for step k comes from the
observation of step k - latency, and streaming policies and real-time chunking know it. Waiting
is here, for comparison and for policies that cannot do better.
"""

from __future__ import annotations

import numpy as np

from hotloop.decoding import ActionSpec, ActionTrajectory, Observation, ObservationSpec, Policy


class SynchronousPolicy:
    """A policy during whose inference the robot stands still.

    Each plan begins with so many repetitions of the last action; what was planned for the
    observed step is executed only after them. The first plan of an episode is waited for.

    Args:
        policy: What plans.
        latency: Duration of an inference, in control steps.
    """

    def __init__(self, policy: Policy, latency: int) -> None:
        if latency < 0:
            raise ValueError(f"latency must be 0 or more control steps, got {latency}")
        self._policy, self._latency = policy, latency
        self._last = np.zeros((0, policy.action_spec.size))
        self._started = np.zeros(0, bool)

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
        """The policy's own number and the steps of standing still."""
        return self._policy.num_execute + self._latency

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`; see `Policy.reset`."""
        self._policy.reset(seeds, rows)
        if rows is None:
            self._last = np.zeros((len(seeds), self.action_spec.size))
            self._started = np.zeros(len(seeds), bool)
        else:
            self._started[rows] = False

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Stand still while the policy plans, then what it planned; see `Policy.plan`."""
        inner = self._policy.plan(observation, step)
        rows, count = observation.rows, self._policy.num_execute
        offset = (step - inner.first_step)[:, None] + np.arange(count)
        planned = np.take_along_axis(inner.actions, offset[:, :, None], axis=1)
        still = np.repeat(self._last[rows][:, None], self._latency, axis=1)
        first = ~self._started[rows]
        actions = np.concatenate([still, planned], axis=1)
        # The first plan: act at once, and stand still afterwards for the same length.
        late = np.concatenate([planned, np.repeat(planned[:, -1:], self._latency, axis=1)], axis=1)
        actions[first] = late[first]
        self._last[rows], self._started[rows] = actions[:, -1], True
        return ActionTrajectory.clean(actions, step, observation.step, inner.dt)
