"""Poses of objects from another program, such as a motion capture or camera tracker, over UDP."""

from __future__ import annotations

import socket

import numpy as np

from ..core.limits import Vector

MOST_NUMBERS = 65507 // 8  # that a datagram can hold


class Tracker:
    """The newest numbers that came in; a datagram is so many little-endian doubles.

    Args:
        port: UDP port on this machine, 0 for no tracker.
        size: Numbers per datagram.
    """

    def __init__(self, port: int, size: int) -> None:
        if not 0 <= port < 1 << 16 or not 0 <= size <= MOST_NUMBERS:
            raise ValueError(
                "tracker is a UDP port from 1 to 65535 or 0, and tracker_size at most "
                f"{MOST_NUMBERS} numbers, got {port} and {size}"
            )
        if (port > 0) != (size > 0):
            raise ValueError(
                f"tracker and tracker_size belong together, got port {port} and size {size}"
            )
        self._port, self._size = port, size
        self._newest: Vector = np.zeros(size)
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Listen."""
        if self._port:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.bind(("127.0.0.1", self._port))

    def newest(self) -> Vector:
        """The numbers of the last datagram of the right size, shape (size,), zeros before."""
        while self._socket is not None:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                break
            if len(data) == 8 * self._size:
                self._newest = np.frombuffer(data, "<f8").astype(np.float64)
        return np.array(self._newest)

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
