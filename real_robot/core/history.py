"""Where the robot was: measurements at the time of another device's, by interpolation."""

from __future__ import annotations

from collections import deque

import numpy as np

from .limits import Vector


class StateHistory:
    """Recent joint measurements, so that joints and slower sensors can be seen at one instant.

    A camera's picture arrives later than the joints' positions. A policy has to see both as they
    were at the same time, as it did in its demonstrations (UMI, arXiv 2402.10329, section III).

    Args:
        duration: How far it reaches back [s].
    """

    def __init__(self, duration: float) -> None:
        self._duration = duration
        self._rows: deque[tuple[float, Vector, Vector]] = deque()

    def add(self, time: float, position: Vector, velocity: Vector) -> None:
        """Take in a measurement; one that is not newer than the last is ignored."""
        if self._rows and not time > self._rows[-1][0]:
            return
        self._rows.append((time, position, velocity))
        while len(self._rows) > 2 and self._rows[1][0] < time - self._duration:
            self._rows.popleft()

    def at(self, time: float) -> tuple[Vector, Vector]:
        """Position and velocity at `time`, linear between measurements, constant beyond them.

        Raises:
            LookupError: Before the first measurement.
        """
        if not self._rows:
            raise LookupError("no measurement yet")
        after = None
        for row in reversed(self._rows):
            if row[0] <= time:
                if after is None:
                    return row[1], row[2]
                share = (time - row[0]) / (after[0] - row[0])
                return (
                    row[1] + share * (after[1] - row[1]),
                    row[2] + share * (after[2] - row[2]),
                )
            after = row
        oldest = self._rows[0]
        return np.array(oldest[1]), np.array(oldest[2])
