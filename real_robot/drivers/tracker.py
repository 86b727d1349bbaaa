"""Poses of objects from another program, such as a motion capture or camera tracker, over UDP."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

import numpy as np

from ..core.limits import Vector

MOST_NUMBERS = 65507 // 8  # that a datagram can hold
LONGEST_TIMEOUT = 1.0  # [s]
# Datagrams that one call takes at most: however fast somebody sends, the loop goes on.
MOST_WAITING = 256


class Tracker:
    """The newest numbers that came in, and whether they are new enough to move by.

    A datagram is `size` little-endian doubles, or one more: the number or time of the tracker's own
    picture. A tracker that sends it is also found out when it goes on sending but sees nothing new.

    Args:
        port: UDP port on this machine, 0 for no tracker.
        size: Numbers per datagram, without the picture's.
        timeout: How old the newest numbers may be [s].
        monotonic: Clock [s].
    """

    def __init__(
        self,
        port: int,
        size: int,
        timeout: float = 0.3,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 <= port < 1 << 16 or not 0 <= size <= MOST_NUMBERS:
            raise ValueError(
                "tracker is a UDP port from 1 to 65535 or 0, and tracker_size at most "
                f"{MOST_NUMBERS} numbers, got {port} and {size}"
            )
        if (port > 0) != (size > 0):
            raise ValueError(
                f"tracker and tracker_size belong together, got port {port} and size {size}"
            )
        if not 0 < timeout <= LONGEST_TIMEOUT:
            raise ValueError(
                f"tracker_timeout must be above 0 and at most {LONGEST_TIMEOUT} s, or the robot "
                f"would go on by where things were, got {timeout}"
            )
        self._port, self._size, self._timeout = port, size, timeout
        self._monotonic = monotonic
        self._newest: Vector = np.full(size, np.nan)
        self._picture = np.nan
        self._came_at = -np.inf
        self._refused = ""
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Listen.

        Raises:
            OSError: If another program has the port.
        """
        if not self._port or self._socket is not None:
            return
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            opened.setblocking(False)
            opened.bind(("127.0.0.1", self._port))
        except OSError as error:
            opened.close()
            raise OSError(
                f"the tracker's UDP port {self._port} cannot be opened: {error.strerror}; another "
                "program listens on it, or it needs other rights"
            ) from None
        self._socket = opened

    def wait(self) -> None:
        """Wait for the first numbers, as long as they may become old.

        Raises:
            ConnectionError: If none came.
        """
        deadline = self._monotonic() + self._timeout
        while self._socket is not None and not np.isfinite(self._came_at):
            left = deadline - self._monotonic()
            if left <= 0:
                raise ConnectionError(self._problem("nothing"))
            select.select([self._socket], [], [], left)
            self._receive()

    def newest(self) -> Vector:
        """The newest numbers, shape (size,), NaN before the first; see `fault` for their age."""
        self._receive()
        return np.array(self._newest)

    def fault(self) -> str:
        """Why nothing may move by these numbers; empty if it may, or if there is no tracker."""
        age = self._monotonic() - self._came_at
        if self._socket is None or age <= self._timeout:
            return ""
        return self._problem("nothing" if age == np.inf else f"nothing new for {age:.2f} s")

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _problem(self, missing: str) -> str:
        reason = self._refused or f"start what sends it, at least every {self._timeout} s"
        return f"the tracker sent {missing} to UDP port {self._port}: {reason}"

    def _receive(self) -> None:
        if self._socket is None:
            return
        for _ in range(MOST_WAITING):
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Keep a datagram's numbers, or why they are none."""
        if len(data) not in (8 * self._size, 8 * (self._size + 1)):
            self._refused = f"it sends {len(data)} bytes, not {self._size} numbers of 8 bytes"
            return
        values = np.frombuffer(data, "<f8").astype(np.float64)
        numbers, picture = values[: self._size], values[self._size :]
        if not np.isfinite(values).all():
            self._refused = "it sends NaN or infinity"
        elif len(picture) and picture[0] == self._picture:
            self._refused = f"it goes on sending its picture {picture[0]:g}"
        else:
            self._newest, self._came_at, self._refused = numbers, self._monotonic(), ""
            self._picture = picture[0] if len(picture) else np.nan
