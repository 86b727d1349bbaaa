"""The operator's side of a run: lines that hold nothing up, and signals that are noted.

A terminal that is stopped with Ctrl-S, a full pipe and a closed window block whoever writes to
them. So lines go through a thread of their own, which drops what it cannot get rid of; and a signal
never interrupts anything, it is noted and asked for.
"""

from __future__ import annotations

import io
import os
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Callable

LINES = 200  # that may wait
PATIENCE = 1.0  # [s] for lines that wait when everything is over
POLL = 0.05  # [s]
# Ctrl-Z and Ctrl-\ are asked for like Ctrl-C: a run must not go on without its operator.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)


def write_line(text: str) -> None:
    """Write a line to standard output at once, past Python's buffer and its lock.

    A thread that is stuck in `print` holds the lock that the interpreter needs in order to end.
    """
    try:
        descriptor = sys.stdout.fileno()
    except (io.UnsupportedOperation, ValueError, AttributeError):
        # Replaced by a program that collects the output, or closed.
        print(text, flush=True)
        return
    rest = f"{text}\n".encode(errors="replace")
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


def readable(text: str) -> str:
    """A line without what would clear, colour or otherwise command the operator's terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


class Printer:
    """A context whose calls take lines for the operator and never wait.

    Args:
        write: Takes one line, and may wait as long as it likes.
    """

    def __init__(self, write: Callable[[str], None] = write_line) -> None:
        self._write = write
        self._lines: queue.Queue[str] = queue.Queue(LINES)
        self._dropped = 0
        self._closing = self._deaf = False
        self._progress = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="printer", daemon=True)

    def __enter__(self) -> Printer:
        """Begin to write."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what is left, as long as it gets written."""
        self._closing = True
        self._progress = time.monotonic()
        while self._thread.is_alive() and time.monotonic() - self._progress < PATIENCE:
            self._thread.join(POLL)

    def __call__(self, text: str) -> None:
        """Show the operator a line, or drop it."""
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self._dropped += 1

    def _work(self) -> None:
        while True:
            try:
                text = self._lines.get(timeout=POLL)
            except queue.Empty:
                if self._closing:
                    return
                continue
            self._show(text)
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._show(f"({dropped} lines were not shown)")

    def _show(self, text: str) -> None:
        if self._deaf:
            return
        try:
            self._write(readable(text))
        except OSError:
            # The terminal or pipe is gone; the run is not.
            self._deaf = True
        self._progress = time.monotonic()


class Signals:
    """A context in which signals that end a program are noted, for someone to ask for them."""

    def __init__(self) -> None:
        self._previous: dict[int, object] = {}
        self.asked = ""

    def __enter__(self) -> Signals:
        """From now on nothing ends this process but itself."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                # `nohup` has a closed terminal ignored on purpose. A shell that starts a run in the
                # background has Ctrl-C ignored too, but whoever sends it to a run means it.
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """As it was."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}

    def _note(self, number: int, frame: object) -> None:
        del frame
        # The first one counts: more of them are impatience.
        self.asked = self.asked or signal.Signals(number).name
