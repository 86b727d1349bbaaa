"""Counting what happens in a run, cheaply enough to do it in every cycle."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..core.events import Event, EventKind

RESOLUTION = 1e-6  # [s]
NUM_BINS = 50_000


class Durations:
    """Histogram of durations with bins of 1 us up to 50 ms, and the exact maximum."""

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] = np.zeros(NUM_BINS, np.int64)
        self.largest = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration [s]."""
        self._counts[min(max(int(seconds / RESOLUTION), 0), NUM_BINS - 1)] += 1
        self.largest = max(self.largest, seconds)

    def quantiles(self, *shares: float) -> list[float]:
        """Upper ends of the bins that the given shares of all durations fall below [s]."""
        cumulative = np.cumsum(self._counts)
        total = int(cumulative[-1])
        if total == 0:
            return [0.0] * len(shares)
        bins = np.searchsorted(cumulative, np.ceil(np.asarray(shares) * total))
        return [min(float(index + 1) * RESOLUTION, self.largest) for index in bins]


@dataclass
class Tally:
    """Counts of one run.

    Attributes:
        cycles: Control cycles run.
        late: Cycles that woke more than half a period late.
        skipped: Cycles left out because an earlier one took too long.
        bus_failures: Reads and writes that failed.
        accepted: Chunks taken over.
        rejected: Chunks refused.
        limit_hits: Times that a limit began to hold the robot back.
        violations: Commands that the last check withheld; a defect if not zero.
        wake: Lateness of waking.
        compute: Time from waking to the command being sent.
    """

    cycles: int = 0
    late: int = 0
    skipped: int = 0
    bus_failures: int = 0
    accepted: int = 0
    rejected: int = 0
    limit_hits: int = 0
    violations: int = 0
    wake: Durations = field(default_factory=Durations)
    compute: Durations = field(default_factory=Durations)

    def note(self, event: Event) -> None:
        """Count an event."""
        self.rejected += event.kind is EventKind.CHUNK_REJECTED
        self.violations += event.kind is EventKind.LIMIT_VIOLATION
        self.limit_hits += event.kind in (
            EventKind.CLIPPED, EventKind.GUARDED, EventKind.WORKSPACE
        )  # fmt: skip
