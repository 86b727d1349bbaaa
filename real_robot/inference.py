"""What plans for the control loop: the policy side of the interface."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from .cameras.camera import Picture
from .config import RobotConfig
from .core.limits import Vector


class Snapshot(NamedTuple):
    """The robot at one instant, and the newest pictures.

    Attributes:
        time: When it was measured [s].
        position: Joint positions, shape (D,).
        velocity: Joint velocities, shape (D,).
        sensors: Further numbers of the robot's back-end, shape (S,).
        pictures: Newest picture of each camera that the policy reads, by name.
    """

    time: float
    position: Vector
    velocity: Vector
    sensors: Vector
    pictures: Mapping[str, Picture] = MappingProxyType({})


class Plan(NamedTuple):
    """Waypoints in time since the snapshot.

    Attributes:
        times: When to be at each waypoint [s], rising, shape (H,).
        waypoints: Joint positions, shape (H, D).
    """

    times: Vector
    waypoints: Vector


class RobotPolicy(Protocol):
    """Plans joint waypoints, in a process of its own."""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras whose pictures it reads, mostly none."""
        ...

    @property
    def period(self) -> float:
        """Time between two plans [s]."""
        ...

    def reset(self, seed: int) -> None:
        """Start an episode."""
        ...

    def plan(self, snapshot: Snapshot) -> Plan | None:
        """Plan from what the robot measured; None if there is nothing to send."""
        ...


class ReachPolicy:
    """Moves from one random pose to the next along minimum-jerk curves: for trying a robot out.

    Args:
        robot: Its limits bound poses and speeds.
        share: Share of each joint's range, about its middle, that poses are drawn from.
        pause: Rest at each pose [s].
    """

    period = 0.1
    cameras: tuple[str, ...] = ()

    def __init__(self, robot: RobotConfig, share: float = 0.4, pause: float = 0.3) -> None:
        if not 0 < share <= 1 or not pause >= 0:
            raise ValueError(
                f"share must be in (0, 1] and pause 0 s or more, got {share} and {pause}"
            )
        bounds = robot.control.limits.arrays
        middle, half = (bounds.low + bounds.high) / 2, share * (bounds.high - bounds.low) / 2
        self._low, self._high = middle - half, middle + half
        self._velocity = 0.5 * bounds.velocity * robot.control.speed
        self._pause = pause
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Draw the poses from `seed`."""
        self._generator = np.random.default_rng(seed)
        self._begin, self._duration = np.inf, 0.0
        self._start = self._goal = np.zeros(0)

    def plan(self, snapshot: Snapshot) -> Plan:
        """The next half second of the present reach."""
        now = snapshot.time
        if not self._begin <= now <= self._begin + self._duration + self._pause:
            # A reach goes on from where the last one ended, not from where the robot lags.
            self._start = self._goal if self._goal.size else snapshot.position
            self._goal = self._generator.uniform(self._low, self._high)
            # A minimum-jerk curve is 15/8 times as fast in its middle as on average.
            longest = np.max(np.abs(self._goal - self._start) / self._velocity)
            self._begin, self._duration = now, max(15 / 8 * float(longest), 0.3)
        times = np.arange(1.0, 11.0) * 0.05
        s = np.minimum(np.maximum((now + times - self._begin) / self._duration, 0.0), 1.0)[:, None]
        return Plan(
            times, self._start + s**3 * (10 - 15 * s + 6 * s**2) * (self._goal - self._start)
        )


def make_reach_policy(robot: RobotConfig, options: Mapping[str, Any]) -> RobotPolicy:
    """Build a `ReachPolicy` for the policy process."""
    return ReachPolicy(robot, **options)
