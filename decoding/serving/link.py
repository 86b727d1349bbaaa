"""One connection to a policy server, which is lost and made again."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from threading import Timer
from time import monotonic
from typing import Any, cast

import numpy as np

from ..plumbing.extras import require
from . import codec
from .metadata import Metadata, read_metadata

RETRY = 0.5  # Time between two attempts to connect [s].
UNAUTHORIZED = 401
AT_ONCE = 1 << 14  # Messages that the system takes whatever the other side does [bytes].


class Lost(Exception):
    """There is no connection; `told` is the error to raise for it, in a sentence."""

    def __init__(self, told: OSError) -> None:
        super().__init__(str(told))
        self.told = told


class Link:
    """A connection for one row.

    Args:
        address: ``ws://HOST:PORT`` or ``wss://HOST:PORT``.
        token: What the server wants to see, empty for nothing.
    """

    def __init__(self, address: str, token: str) -> None:
        self._address = address
        self._headers = {"Authorization": f"Api-Key {token}"} if token else {}
        self._socket: Any = None
        self._held = ExitStack()
        self._seed, self._begins, self._retry_at = 0, True, 0.0
        self._asks = False  # whether an answer is to come
        self._errors = require("websockets.exceptions", "serve")

    @property
    def seed(self) -> int:
        """Seed of the row's episode; setting it begins one with the next request."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._seed, self._begins = seed, True

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self._socket is not None

    def open(self, timeout: float) -> Metadata:
        """Connect, and return what the server says of its policy.

        Raises:
            ConnectionError: If nobody answers, or no row is free.
            TimeoutError: If nobody answers in time [s].
            ValueError: If the server turns this client away, or is none of hotloop's.
        """
        try:
            return self._open(timeout)
        except Lost as error:
            raise error.told from None

    def reopen(self, timeout: float) -> Metadata | None:
        """Connect once more, unless that was tried just now: then None.

        Raises:
            Lost: If that is not possible.
        """
        if monotonic() < self._retry_at:
            return None
        self._retry_at = monotonic() + RETRY
        self._begins = True
        return self._open(timeout)

    def _open(self, timeout: float) -> Metadata:
        client, deadline = require("websockets.sync.client", "serve"), monotonic() + timeout
        try:
            connected = client.connect(
                self._address,
                additional_headers=self._headers,
                compression=None,
                proxy=None,
                open_timeout=max(timeout, 1e-3),
                close_timeout=0.1,
            )
            # Newer versions connect on entering the context.
            self._socket = self._held.enter_context(connected)
            message = self._socket.recv(max(deadline - monotonic(), 0.0))
            return read_metadata(codec.unpack(message) if isinstance(message, bytes) else message)
        except self._errors.InvalidURI:
            raise ValueError(f"{self._address!r} is no address; write ws://HOST:PORT") from None
        except self._errors.InvalidStatus as error:
            raise self._turned_away(error.response) from None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:  # a server that just ends
            self._drop()
            raise self._nobody(error) from None
        except ssl.SSLError as error:
            raise ValueError(
                f"{self._address}: {error.reason or error}; a certificate of your own is trusted "
                "with SSL_CERT_FILE=FILE, and ws:// is the address of a server without one"
            ) from None
        except TimeoutError:
            self._drop()
            told = TimeoutError(f"{self._address} did not answer within {timeout:.3g} s")
            raise Lost(told) from None
        except (OSError, self._errors.WebSocketException) as error:
            self._drop()
            raise self._nobody(error) from None
        except ValueError as error:
            self._drop()
            raise ValueError(f"{self._address}: {error}") from None

    def ask(self, request: dict[str, object], timeout: float) -> None:
        """Send a request for a plan; a connection that does not take it in time [s] is given up.

        Raises:
            Lost: If the connection is.
        """
        request |= {"endpoint": "plan"}
        if self._begins:
            request |= {"reset": True, "seed": self._seed}
        message, self._asks = codec.pack(request), True
        try:
            with self._deadline(timeout if len(message) > AT_ONCE else None):
                self._socket.send(message)
        except (OSError, self._errors.WebSocketException) as error:
            self._read_refusal()
            raise self._gone(error) from None
        self._begins = False

    def answer(self, timeout: float) -> np.ndarray:
        """Wait for the actions of the request before [s]; a connection that is late is given up.

        Raises:
            Lost: If the connection is lost, or the answer late.
            ValueError: If the server refuses the request.
        """
        try:
            message = self._socket.recv(timeout)
            self._asks = False
        except TimeoutError:
            self._drop()
            raise Lost(TimeoutError(f"{self._address} did not answer in time")) from None
        except (OSError, self._errors.WebSocketException) as error:
            raise self._gone(error) from None
        if isinstance(message, str):
            self._drop()
            raise ValueError(f"{self._address} refuses: {message}")
        reply = codec.unpack(message)
        actions = cast("dict[str, Any]", reply).get("actions") if isinstance(reply, dict) else None
        if not isinstance(actions, np.ndarray):
            raise ValueError(f"{self._address} answered without actions")
        return cast("np.ndarray[Any, Any]", actions)

    def forget(self) -> None:
        """Give the connection up if an answer is still to come, which nobody will wait for."""
        if self._asks:
            self._drop()

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._socket is not None:
            self._socket = None
            self._held.close()

    @contextmanager
    def _deadline(self, timeout: float | None) -> Generator[None, None, None]:
        """End the connection if the block takes longer [s]: what is sent has no deadline else."""
        if timeout is None:
            yield
            return
        timer = Timer(timeout, self._cut, [self._socket.socket])
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @staticmethod
    def _cut(connected: socket.socket) -> None:
        with suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        """End the connection without waiting for the other side."""
        self._asks = False
        if self._socket is not None:
            self._cut(self._socket.socket)
            self.close()

    def _read_refusal(self) -> None:
        """Raise ValueError if the server said why it ended the connection."""
        with suppress(TimeoutError, OSError, self._errors.WebSocketException):
            message = self._socket.recv(0)
            if isinstance(message, str):
                self._drop()
                raise ValueError(f"{self._address} refuses: {message}")

    def _gone(self, error: Exception) -> Lost:
        self._drop()
        return Lost(ConnectionError(f"the connection to {self._address} is lost ({error})"))

    def _turned_away(self, response: Any) -> Exception:
        text = " ".join(response.body.decode(errors="replace").split())[:200]
        if response.status_code == UNAUTHORIZED:
            return ValueError(
                f"{self._address} does not take the token; give the server's as HOTLOOP_TOKEN"
            )
        return Lost(ConnectionError(f"{self._address} lets nobody in: {text}"))

    def _nobody(self, error: Exception) -> Lost:
        if isinstance(error, self._errors.InvalidMessage):
            told = "whoever answers is no policy server; one with a certificate is at wss://…"
            return Lost(ConnectionError(f"{self._address}: {told}"))
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Lost(
            ConnectionError(
                f"no policy server at {self._address} ({reason}); start one: hotloop serve NAME"
            )
        )
