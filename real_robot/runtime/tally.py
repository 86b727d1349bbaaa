"""Counting what happens in a run, cheaply enough to do it in every cycle."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.events import Event, EventKind
from .shared import Histogram


class Durations:
    """A histogram of durations together with the exact maximum [s].

    Args:
        histogram: Where to count.
    """

    def __init__(self, histogram: Histogram) -> None:
        self.histogram, self.largest = histogram, 0.0

    def add(self, seconds: float) -> None:
        """Count one duration [s]."""
        self.histogram.add(seconds)
        if seconds > self.largest:
            self.largest = seconds

    def quantiles(self, *shares: float) -> list[float]:
        """Durations that the given shares of all fall below [s]; up to 1 us too long."""
        return [min(found, self.largest) for found in self.histogram.quantiles(*shares)]


@dataclass
class Tally:
    """Counts of one run.

    Attributes:
        wake: Lateness of waking.
        compute: Time from waking to the command being sent.
        cycles: Control cycles run.
        late: Cycles that woke more than half a period late.
        skipped: Cycles left out because an earlier one took too long.
        unsent: Commands that never left: the bus failed, or they would have come too late.
        bus_failures: Reads and writes that failed.
        accepted: Chunks taken over.
        rejected: Chunks refused.
        limit_hits: Times that a limit began to hold the robot back.
        violations: Commands that the last check withheld; a defect if not zero.
    """

    wake: Durations
    compute: Durations
    cycles: int = 0
    late: int = 0
    skipped: int = 0
    unsent: int = 0
    bus_failures: int = 0
    accepted: int = 0
    rejected: int = 0
    limit_hits: int = 0
    violations: int = 0

    def note(self, event: Event) -> None:
        """Count an event."""
        self.rejected += event.kind is EventKind.CHUNK_REJECTED
        self.violations += event.kind is EventKind.LIMIT_VIOLATION
        self.limit_hits += event.kind in (
            EventKind.CLIPPED, EventKind.GUARDED, EventKind.WORKSPACE
        )  # fmt: skip
