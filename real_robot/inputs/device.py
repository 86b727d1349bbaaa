"""Event devices of Linux, read without waiting."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from typing import Any

EVENTS_PER_READ = 64


class EventDevice:
    """A file under ``/dev/input`` that gives records of one size.

    Args:
        path: The file.
        layout: One record, as `struct` has it.
    """

    def __init__(self, path: str, layout: str) -> None:
        self.path, self._layout = path, struct.Struct(layout)
        self._file = -1

    def open(self) -> int:
        """Open for reading, and return the descriptor.

        Raises:
            ConnectionError: If there is no such device or it may not be read.
        """
        try:
            self._file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError as error:
            raise ConnectionError(
                f"{self.path} may not be read; add yourself to the group of the file, which is "
                "mostly 'input', and log in again"
            ) from error
        except OSError as error:
            raise ConnectionError(
                f"{self.path} cannot be opened ({error.strerror}); is it plugged in?"
            ) from error
        kind = os.fstat(self._file).st_mode
        if not (stat.S_ISCHR(kind) or stat.S_ISFIFO(kind)):
            self.close()
            raise ConnectionError(f"{self.path} is no input device; expected e.g. /dev/input/js0")
        return self._file

    def events(self) -> Iterator[tuple[Any, ...]]:
        """Records that came in since the previous call; never waits.

        Raises:
            ConnectionError: If the device is gone or was not opened.
        """
        while True:
            try:
                content = os.read(self._file, EVENTS_PER_READ * self._layout.size)
            except BlockingIOError:
                return
            except OSError as error:
                raise ConnectionError(f"{self.path} is lost ({error.strerror})") from error
            if not content:
                raise ConnectionError(f"{self.path} is lost (it was closed)")
            # The system gives whole records only; a pipe in its place might not.
            whole = len(content) - len(content) % self._layout.size
            yield from self._layout.iter_unpack(content[:whole])

    def close(self) -> None:
        """Close; callable at any time, twice too."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
