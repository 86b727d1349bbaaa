"""The log process: moves records from the rings to an MCAP file, and nobody waits for it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from threading import Event

from ..logs.writer import LogWriter
from .realtime import follow_parent, on_signals
from .start import Task, receive

PERIOD = 0.02  # [s]
QUIET = 0.3  # [s]


def main() -> int:
    """Log until SIGTERM, then what is left; 1 if the file cannot be written."""
    task, ending = receive(), Event()
    on_signals(ending.set)
    follow_parent()
    try:
        record(task, ending.is_set)
    except OSError as error:
        # The robot goes on without a log.
        print(f"hotloop: log stopped: {error.strerror or error}", file=sys.stderr, flush=True)
        return 1
    return 0


def record(task: Task, ended: Callable[[], bool]) -> None:
    """Write records until `ended()` is true and the loop has nothing more to say."""
    channels = task.channels()
    metadata = {"robot": json.dumps(asdict(task.robot)), "sizes": json.dumps(list(task.sizes))}
    with LogWriter(Path(task.extra["path"]), metadata) as writer:
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


if __name__ == "__main__":
    sys.exit(main())
