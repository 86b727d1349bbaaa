"""Whether the robot can be believed, and whether it goes where it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np

from .controller_config import ControllerConfig
from .events import RobotState
from .limits import Floats

# Cycles in a row that a stalled loop may be late in.
LATE_CYCLES = 3


class RobotWatch:
    """Judges measurements: faults, age, and the distance from the command over time.

    Args:
        config: Its timeouts and tracking errors.
    """

    def __init__(self, config: ControllerConfig) -> None:
        self._config = config
        self._tracked_at = -np.inf
        self._num_ahead = 0
        limits, time = config.limits.arrays, config.tracking_time + config.state_timeout
        v, a, j = limits.velocity, limits.acceleration, limits.jerk
        # Farthest that a command can have gone on without a joint: until that is noticed, and
        # through the stop from full speed.
        farthest = v * time + v * v / (2 * a) + v * a / j
        if config.tracking_error:
            farthest = farthest + config.tracking_error
        self._farthest: Floats = farthest.tolist()

    def restart(self, now: float) -> None:
        """Begin: up to now every joint is where it should be."""
        self._tracked_at = now

    def skip(self, time: float) -> None:
        """Leave out a time [s] in which nobody looked at the robot."""
        self._tracked_at += time

    def note(self, now: float, state: RobotState) -> None:
        """Take the measurement of this cycle, once."""
        # That of a cycle that is late is newer than its deadline, but of one cycle only.
        ahead = state.time - now > self._config.state_timeout
        self._num_ahead = self._num_ahead + 1 if ahead else 0

    def unsound(self, now: float, state: RobotState) -> str:
        """Why a measurement says nothing about the robot as it is now, empty if it does."""
        if not all(map(isfinite, [*state.position.tolist(), *state.velocity.tolist()])):
            return "the robot's state holds NaN or infinity"
        timeout, age = self._config.state_timeout, now - state.time
        if not age <= timeout:
            return f"the robot's state is {age:.3f} s old"
        return ""

    def state_problem(self, now: float, state: RobotState) -> str:
        """Why the robot may not move with this measurement, empty if it may."""
        if self._num_ahead > LATE_CYCLES:
            ahead = state.time - now
            return f"the robot's state is of {ahead:.3f} s later, by another clock than the loop's"
        return state.fault or self.unsound(now, state)

    def tracking_problem(self, now: float, state: RobotState, command: Floats) -> str:
        """Which joint has been too far from its command for too long, empty if none."""
        allowed = self._config.tracking_error
        if not allowed:
            return ""
        excess = _excess(state, command, allowed)
        if max(excess) <= 0:
            self._tracked_at = now
        elif now - self._tracked_at > self._config.tracking_time:
            joint = excess.index(max(excess))
            return f"joint {joint} is {excess[joint] + allowed[joint]:.4f} away from its command"
        return ""

    def too_far(self, state: RobotState, command: Floats) -> str:
        """Which joint is measured where it cannot have been left behind, empty if none."""
        excess = _excess(state, command, self._farthest)
        if max(excess) <= 0:
            return ""
        joint = excess.index(max(excess))
        error = excess[joint] + self._farthest[joint]
        return f"joint {joint} is measured {error:.4f} away, farther than it can have been left"


def _excess(state: RobotState, command: Floats, allowed: Sequence[float]) -> Floats:
    """By how much the distance of each joint from its command exceeds what is allowed."""
    return [
        abs(found - told) - most
        for found, told, most in zip(state.position.tolist(), command, allowed, strict=True)
    ]
