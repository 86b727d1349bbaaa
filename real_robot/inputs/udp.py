"""A heartbeat over UDP: the robot may move while somebody says so, again and again."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from ..drivers.driver import check_options
from .stop_input import Signal

DATAGRAM = 64  # bytes
MOST_PER_READ = 64


class UdpStop:
    """Datagrams, each of which is ``go``, ``stop`` or ``reset``; all others count for nothing.

    UDP proves nobody's identity: keep the port within a network where everybody may stop and start
    the robot.

    Args:
        options: ``port``; ``host``, the address to listen at, by default this machine alone;
            ``sender``, the only address that is listened to, empty for any; ``timeout``, how long
            a ``go`` lasts [s].
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        known = {"port": int, "host": str, "sender": str, "timeout": float}
        check_options(options, known, "stop input")
        self._port, self._host = options.get("port", 0), options.get("host", "127.0.0.1")
        self._sender, self._timeout = options.get("sender", ""), options.get("timeout", 0.2)
        if not 1 <= self._port < 1 << 16:
            raise ValueError(f"port must be a UDP port from 1 to 65535, got {self._port}")
        if not 0.02 <= self._timeout <= 2.0:
            raise ValueError(f"timeout must be between 0.02 and 2 s, got {self._timeout}")
        self._socket: socket.socket | None = None
        self._heard = float("-inf")
        self._stopped = False

    def open(self) -> None:
        """Listen."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind((self._host, self._port))
        except OSError as error:
            self.close()
            raise ConnectionError(
                f"nothing can be received at {self._host}:{self._port} ({error.strerror})"
            ) from error

    def read(self, now: float) -> Signal:
        """What was said last, and whether that is recent enough."""
        reset = False
        for word in self._words():
            reset = reset or word == b"reset"
            if word in (b"go", b"stop"):
                self._heard, self._stopped = now, word == b"stop"
        if self._stopped:
            return Signal("stop was received")
        silence = now - self._heard
        if silence == float("inf"):
            return Signal(f"no heartbeat came yet at port {self._port}")
        if silence > self._timeout:
            return Signal(f"no heartbeat for {silence:.2f} s")
        return Signal("", reset)

    def _words(self) -> list[bytes]:
        words: list[bytes] = []
        if self._socket is None:
            raise ConnectionError("it is not open")
        # Bounded: a flood must not hold up the loop.
        for _ in range(MOST_PER_READ):
            try:
                content, address = self._socket.recvfrom(DATAGRAM)
            except BlockingIOError:
                break
            if not self._sender or address[0] == self._sender:
                words.append(content.strip())
        return words

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
