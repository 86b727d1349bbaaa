"""The last look at a command before it leaves: independent of how it was made."""

from __future__ import annotations

import sys

from .limits import Floats, Limits, Workspace

# Differences of positions stored in float64 are only this exact, times 2 ** order.
ROUNDING = 4 * sys.float_info.epsilon
TOLERANCE = 1e-6
NAMES = ("velocity", "acceleration", "jerk")


class CommandCheck:
    """Checks positions, and their finite differences over consecutive commands.

    The first, second and third difference of a trajectory are averages of its velocity,
    acceleration and jerk, so a trajectory within the limits cannot fail, and one that fails has
    left them, whatever velocities were claimed.
    """

    def __init__(self, limits: Limits, dt: float, workspace: Workspace | None = None) -> None:
        self._limits, self._workspace = limits, workspace
        # Position, first and second difference of the newest command, per joint.
        self._newest: list[tuple[float, float, float]] = []
        # Largest velocity, acceleration and jerk so far, as shares of their limits.
        self.peaks: list[float] = [0.0, 0.0, 0.0]
        # Per joint: the differences that the limits are, and the shares of them that may be.
        self._scales: list[tuple[float, ...]] = []
        self._allowed: list[tuple[float, ...]] = []
        for low, high, *caps in zip(
            limits.low, limits.high, limits.velocity, limits.acceleration, limits.jerk, strict=True
        ):
            largest = max(abs(low), abs(high))
            scales = [cap * dt**order for order, cap in enumerate(caps, start=1)]
            self._scales.append(tuple(scales))
            self._allowed.append(
                tuple(
                    1 + TOLERANCE + ROUNDING * 2.0**order * largest / scale
                    for order, scale in enumerate(scales, start=1)
                )
            )

    def restart(self, position: Floats) -> None:
        """Begin at rest: the robot stood at `position`."""
        self._newest = [(value, 0.0, 0.0) for value in position]

    def problem(self, position: Floats) -> str:
        """Which limit a command would break, empty if none; a good command is remembered."""
        limits = self._limits
        for joint, value in enumerate(position):
            if not limits.low[joint] <= value <= limits.high[joint]:
                return f"position limit, joint {joint}"
        if self._workspace is not None and not self._workspace.clearance_at(position) > -1e-9:
            return "workspace"
        newest: list[tuple[float, float, float]] = []
        peaks = self.peaks
        for joint, (value, (last, first, second)) in enumerate(
            zip(position, self._newest, strict=True)
        ):
            velocity = value - last
            acceleration = velocity - first
            v, a, j = self._scales[joint]
            shares = abs(velocity) / v, abs(acceleration) / a, abs(acceleration - second) / j
            for name, share, allowed in zip(NAMES, shares, self._allowed[joint], strict=True):
                if not share <= allowed:
                    return f"{name} limit, joint {joint}"
            newest.append((value, velocity, acceleration))
            peaks = list(map(max, peaks, shares))
        self._newest, self.peaks = newest, peaks
        return ""
