"""The smooth way from one pose to another."""

from __future__ import annotations

import numpy as np

from ..core.limits import Vector
from ..core.trajectory import Chunk
from .protocol import Snapshot

SHORTEST = 0.3  # [s]
STEP, NUM_STEPS = 0.05, 10  # between waypoints of a chunk [s], and how many it has


class Move:
    """A minimum-jerk curve from rest to rest; afterwards it stays there.

    Args:
        start: Joint positions, shape (D,).
        goal: The same at its end.
        begin: When it begins [s].
        velocity: How fast each joint may become, shape (D,).
        shortest: Time that it takes at least [s].
    """

    def __init__(
        self,
        start: Vector,
        goal: Vector,
        begin: float,
        velocity: Vector,
        shortest: float = SHORTEST,
    ) -> None:
        self.start, self.goal, self.begin = start, goal, begin
        # A minimum-jerk curve is 15/8 times as fast in its middle as on average.
        longest = float(np.max(np.abs(goal - start) / velocity))
        self.duration = max(15 / 8 * longest, shortest)

    @property
    def end(self) -> float:
        """When it is over [s]."""
        return self.begin + self.duration

    def at(self, times: Vector) -> Vector:
        """Joint positions at some times, shape (n, D)."""
        s = np.minimum(np.maximum((times - self.begin) / self.duration, 0.0), 1.0)[:, None]
        return self.start + s**3 * (10 - 15 * s + 6 * s**2) * (self.goal - self.start)

    def chunk(self, snapshot: Snapshot) -> Chunk:
        """The next half second of it."""
        times = snapshot.time + STEP * np.arange(1.0, NUM_STEPS + 1)
        return snapshot.chunk(times, self.at(times))
