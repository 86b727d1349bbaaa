"""What ends a run that nobody can answer for: lost cycles, a dead bus, and nobody there."""

from __future__ import annotations

import struct
from collections import deque

from .channels import Channels

WINDOW = 10.0  # [s] over which lost cycles are counted
TIME = struct.Struct("=d")
SILENCE = 2.0  # [s] without a sign of life of the supervisor


class OverrunGuard:
    """Cycles that were left out, as a share of a sliding window.

    Args:
        budget: Largest share of the window.
        dt: Control period [s].
    """

    def __init__(self, budget: float, dt: float) -> None:
        self._budget, self._dt = budget, dt
        self._counts: deque[tuple[float, int]] = deque()

    def problem(self, now: float, skipped: int) -> str:
        """Why the loop may not go on, empty if it may.

        Args:
            now: Time [s].
            skipped: Cycles left out so far, and those whose command never left.
        """
        counts = self._counts
        counts.append((now, skipped))
        while now - counts[0][0] > WINDOW:
            counts.popleft()
        lost = (skipped - counts[0][1]) * self._dt
        if lost <= self._budget * WINDOW:
            return ""
        return (
            f"cycles of {lost:.2f} s were left out or sent nothing within {WINDOW:g} s, "
            "overrun_budget allows "
            f"{self._budget:.0%}"
        )

    def restart(self) -> None:
        """Forget what was."""
        self._counts.clear()


class BusGuard:
    """Cycles in a row in which the bus failed: too many of them are a fault of the robot.

    Args:
        budget: So many are.
    """

    def __init__(self, budget: int) -> None:
        self._budget, self._reason = budget, ""
        self.num_failed = 0

    def fail(self, reason: str) -> None:
        """The present cycle's communication failed."""
        self._reason = reason

    def fault(self) -> str:
        """At the end of each cycle: what is wrong with the robot, empty if nothing."""
        reason, self._reason = self._reason, ""
        self.num_failed = self.num_failed + 1 if reason else 0
        return f"bus: {reason}" if self.num_failed >= self._budget else ""


class Heartbeat:
    """Whether the supervisor still watches: one that is stopped or dead passes on no key.

    Args:
        channels: Of the run. A loop without a supervisor hears no heartbeat and waits for none.
    """

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._heard = float("inf")

    def problem(self, now: float) -> str:
        """Why the loop may not go on, empty if it may."""
        content = self._channels.heartbeat.read_bytes()
        if content is not None:
            self._heard = TIME.unpack(content)[0]
        # A supervisor that was stopped in the middle of writing is silent too.
        silence = now - self._heard
        return f"the supervisor was not heard for {silence:.1f} s" if silence > SILENCE else ""
