"""Whether the robot can be believed, and whether it goes where it is told to."""

from __future__ import annotations

import numpy as np

from .controller_config import ControllerConfig
from .events import RobotState
from .limits import Vector


class Watch:
    """Judges measurements: faults, age, and the distance from the command over time.

    Args:
        config: Its timeouts and tracking errors.
    """

    def __init__(self, config: ControllerConfig) -> None:
        self._config = config
        self._tracked_at = -np.inf
        limits, time = config.limits.arrays, config.tracking_time + config.state_timeout
        v, a, j = limits.velocity, limits.acceleration, limits.jerk
        # Farthest that a command can have gone on without a joint: until that is noticed, and
        # through the stop from full speed.
        self._farthest: Vector = v * time + v * v / (2 * a) + v * a / j
        if config.tracking_error:
            self._farthest = self._farthest + config.tracking_error

    def restart(self, now: float) -> None:
        """Begin: up to now every joint is where it should be."""
        self._tracked_at = now

    def skip(self, time: float) -> None:
        """Leave out a time [s] in which nobody looked at the robot."""
        self._tracked_at += time

    def unsound(self, now: float, state: RobotState) -> str:
        """Why a measurement says nothing about the robot as it is now, empty if it does."""
        if not (np.isfinite(state.position).all() and np.isfinite(state.velocity).all()):
            return "the robot's state holds NaN or infinity"
        timeout, age = self._config.state_timeout, now - state.time
        if not age <= timeout:
            return f"the robot's state is {age:.3f} s old"
        # A cycle may be late, and its measurement is made after its deadline.
        if not -age <= timeout + self._config.dt:
            return f"the robot's state is of {-age:.3f} s later"
        return ""

    def state_problem(self, now: float, state: RobotState) -> str:
        """Why the robot may not move with this measurement, empty if it may."""
        return state.fault or self.unsound(now, state)

    def tracking_problem(self, now: float, state: RobotState, command: Vector) -> str:
        """Which joint has been too far from its command for too long, empty if none."""
        allowed = self._config.tracking_error
        if not allowed:
            return ""
        error = np.abs(state.position - command)
        if (error <= allowed).all():
            self._tracked_at = now
        elif now - self._tracked_at > self._config.tracking_time:
            joint = int(np.argmax(error - allowed))
            return f"joint {joint} is {error[joint]:.4f} away from its command"
        return ""

    def too_far(self, state: RobotState, command: Vector) -> str:
        """Which joint is measured where it cannot have been left behind, empty if none."""
        error = np.abs(state.position - command)
        if (error <= self._farthest).all():
            return ""
        joint = int(np.argmax(error - self._farthest))
        return (
            f"joint {joint} is measured {error[joint]:.4f} away, farther than it can have been left"
        )
