"""The last look at a command before it leaves: independent of how it was made."""

from __future__ import annotations

import numpy as np

from .limits import Limits, Vector, Workspace

# Differences of positions stored in float64 are only this exact, times 2 ** order.
ROUNDING = 4 * float(np.finfo(np.float64).eps)
TOLERANCE = 1e-6
# First, second and third difference of the last four commands.
DIFFERENCES = np.array([[0.0, 0.0, -1.0, 1.0], [0.0, 1.0, -2.0, 1.0], [-1.0, 3.0, -3.0, 1.0]])
NAMES = ("velocity", "acceleration", "jerk")


class CommandCheck:
    """Checks positions, and their finite differences over consecutive commands.

    The first, second and third difference of a trajectory are averages of its velocity,
    acceleration and jerk, so a trajectory within the limits cannot fail, and one that fails has
    left them, whatever velocities were claimed.
    """

    def __init__(self, limits: Limits, dt: float, workspace: Workspace | None = None) -> None:
        self._dt, self._bounds, self._workspace = dt, limits.arrays, workspace
        self._recent: list[Vector] = []
        # Largest velocity, acceleration and jerk so far, as shares of their limits.
        self.peaks: list[float] = [0.0, 0.0, 0.0]
        largest = np.maximum(np.abs(self._bounds.low), np.abs(self._bounds.high))
        caps = np.stack([self._bounds.velocity, self._bounds.acceleration, self._bounds.jerk])
        orders = np.arange(1, 4)[:, None]
        self._scales: Vector = caps * dt**orders
        self._allowed: Vector = 1 + TOLERANCE + ROUNDING * 2.0**orders * largest / self._scales

    def restart(self, position: Vector) -> None:
        """Begin at rest: the robot stood at `position`."""
        self._recent = [position] * 3

    def problem(self, position: Vector) -> str:
        """Which limit a command would break, empty if none; a good command is remembered."""
        inside = (self._bounds.low <= position) & (position <= self._bounds.high)
        if not inside.all():
            return f"position limit, joint {int(np.argmin(inside))}"
        if self._workspace is not None and not self._workspace.clearance(position[None])[0] > -1e-9:
            return "workspace"
        points: Vector = np.stack([*self._recent, position])
        share: Vector = np.abs(DIFFERENCES @ points) / self._scales
        within = share <= self._allowed
        if not within.all():
            order, joint = np.argwhere(~within)[0]
            return f"{NAMES[order]} limit, joint {joint}"
        self._recent = [*self._recent[1:], position]
        self.peaks = [max(*pair) for pair in zip(self.peaks, share.max(axis=1), strict=True)]
        return ""
