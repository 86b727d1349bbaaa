"""A policy at its own control steps, on a robot whose time goes on: what all of them share."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from ...decoding import ActionTrajectory, Executor, NotReady, Policy
from ..core.limits import Vector

# Actions before the present one that go along: a curve through waypoints takes its slope at one
# from both neighbours, so consecutive chunks agree on the way to the present action.
NUM_PAST = 2
# More would not fit into one message to the control loop.
MAX_ACTIONS = 100


class ControlSteps:
    """Runs a policy at its control period on observations that come when they come.

    Step k begins with the observation at its time and its action is due when it ends. Steps that
    went by while the policy was thinking are not made up for: their actions are dropped, and the
    history sees frames between those before and after.

    Args:
        policy: What to run.
        latency: Control steps between an observation and the first action planned from it.

    Attributes:
        dt: Control period [s].
    """

    def __init__(self, policy: Policy, latency: int = 0) -> None:
        self.dt = policy.action_spec.dt
        self._executor = Executor(policy, latency=latency)
        self._past: deque[Vector] = deque(maxlen=NUM_PAST)
        self._frame: dict[str, np.ndarray] = {}
        self._begin = 0.0

    @property
    def num_plans(self) -> int:
        """Plans made so far."""
        return self._executor.num_plans

    def reset(self, seed: int) -> None:
        """Start an episode."""
        self._executor.reset([seed])
        self._past.clear()
        self._frame = {}

    def act(self, time: float, frame: Mapping[str, np.ndarray]) -> ActionTrajectory | None:
        """Take a control step.

        Args:
            time: When the observation was made [s], rising.
            frame: Observation without an axis of rows, physical units.

        Returns:
            One row of actions: some past ones, that of the present step, which is the observed one,
            and those that are planned after it; `due` tells when. None if the next step is not due
            yet, or if the policy has no action that may be executed.

        Raises:
            ValueError: If the frame is not what the policy reads.
        """
        newest = {key: np.asarray(value)[None] for key, value in frame.items()}
        if not self._frame:
            self._begin = time
        else:
            num_steps = round((time - self._begin) / self.dt)
            if num_steps < 1:
                return None
            self._skip(num_steps - 1, newest)
            self._begin += num_steps * self.dt
        self._frame = newest
        step = self._executor.next_step()
        try:
            action = self._executor.act(newest)[0]
        except NotReady:
            self._past.clear()
            return None
        actions = np.array([*self._past, action, *self._planned()[: MAX_ACTIONS - NUM_PAST]])
        first_step = step - len(self._past)
        self._past.append(action)
        return ActionTrajectory.clean(
            actions[None], np.array([first_step]), np.array([step]), self.dt
        )

    def due(self, actions: ActionTrajectory) -> Vector:
        """When each of the actions should have been carried out [s], on the clock of `act`."""
        start = self._begin - self.dt * actions.observed_step[0]
        return start + actions.times[0] + self.dt

    def _planned(self) -> Vector:
        """Actions after the present one, shape (n, D), maybe none."""
        upcoming = self._executor.upcoming()
        return np.zeros((0, 0)) if upcoming is None else upcoming.actions[0]

    def _skip(self, num_missed: int, newest: Mapping[str, np.ndarray]) -> None:
        """Let steps pass that nobody acted in, as if their observations lay on a line."""
        if not num_missed:
            return
        dropped = self._planned()[:num_missed]
        for missed in range(1, num_missed + 1):
            share = missed / (num_missed + 1)
            self._executor.skip(
                {key: _between(self._frame[key], value, share) for key, value in newest.items()}
            )
        if len(dropped) < num_missed:
            self._past.clear()
        else:
            self._past.extend(dropped)


def _between(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    """Part of the way between two frames; pictures and texts are the newest ones."""
    if after.dtype == np.uint8:
        return after
    return (1 - share) * before + share * after
