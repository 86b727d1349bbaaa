"""The log process: moves records from the rings to an MCAP file, and nobody waits for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np

from ..logs.writer import LogWriter
from .channels import LOG, Channels
from .realtime import follow_parent, on_signals
from .start import Assignment, receive

PERIOD = 0.02  # [s]
QUIET = 0.3  # [s]


def main() -> int:
    """Log until SIGTERM, then what is left; 1 if the file cannot be written."""
    assignment, ending = receive(), Event()
    channels = assignment.channels()
    on_signals(ending.set)
    follow_parent()
    try:
        record(assignment, channels, ending.is_set)
    except (OSError, ImportError) as error:
        # A robot that moves goes on without a log; one that does not will not start.
        reason = getattr(error, "strerror", None) or str(error)
        _tell(channels, f"{assignment.extra['path']}: {reason}")
        return 1
    return 0


def record(assignment: Assignment, channels: Channels, ended: Callable[[], bool]) -> None:
    """Write records until `ended()` is true and the loop has nothing more to say."""
    with LogWriter(Path(assignment.extra["path"]), assignment.robot, assignment.sizes) as writer:
        _tell(channels)
        heard = time.monotonic()
        while True:
            ending, status = ended(), channels.status.read()
            finished = status is not None and bool(status["finished"])
            cycles = channels.log_cycles.pop()
            writer.cycles(cycles)
            writer.chunks(channels.log_chunks.pop())
            writer.events(channels.log_events.pop())
            now = time.monotonic()
            heard = now if len(cycles) else heard
            # The loop may still be braking, or it may be dead.
            if ending and (finished or now - heard > QUIET):
                writer.end(channels.log_cycles.num_dropped + channels.log_chunks.num_dropped)
                return
            time.sleep(PERIOD)


def _tell(channels: Channels, failure: str = "") -> None:
    """Say that the log is being written, or why it is not."""
    record = np.zeros((), LOG)
    record["failure"] = failure.encode()[:600]
    channels.log.write(record)


if __name__ == "__main__":
    sys.exit(main())
