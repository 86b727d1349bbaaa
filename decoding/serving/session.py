"""One robot's conversation with the server: its row, its episode, its connection."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any

from ..plumbing.extras import require
from .requests import Request


class Session:
    """State of one connection.

    Args:
        row: Row of the policy that belongs to it.
        socket: The connection.
        num_execute: Actions meant to be executed per plan.

    Attributes:
        peer: Address of the robot.
        seed: Seed of the episode that begins with the next request; None if one goes on.
        previous_s: How long the previous request took in all, None at first [s].
        is_asking: Whether it waits for an answer.
        sending_since: When the answer that is being sent was finished; infinite if none is [s].
        slow: Why the connection was let go of; empty if it was not.
    """

    def __init__(self, row: int, socket: Any, num_execute: int) -> None:
        self.row = row
        address = socket.remote_address
        self.peer = f"{address[0]}:{address[1]}" if address else "somebody"
        self.seed: int | None = None
        self.previous_s: float | None = None
        self.sending_since, self.slow = inf, ""
        self.is_asking = False
        self._socket, self._num_execute = socket, num_execute
        self._began, self._name = False, ""
        self._step = 0

    def begins(self, request: Request) -> bool:
        """Whether an episode begins with this request."""
        renamed = bool(request.session) and request.session != self._name
        begins = not self._began or request.reset or (renamed and bool(self._name))
        self._began, self._name = True, request.session or self._name
        if begins:
            self._step = 0
        return begins

    def step_of(self, request: Request) -> tuple[int, bool]:
        """First control step that needs an action, and whether it is not the one expected."""
        if request.kind == "act" or request.step is None:
            return self._step, False
        return request.step, request.step != self._step

    def went_on(self, request: Request, step: int) -> None:
        """An answer for this step was given."""
        self._step = step + (1 if request.kind == "act" else self._num_execute)

    async def send(self, message: bytes) -> None:
        """Send a message; waits for a client that takes none."""
        self.sending_since = monotonic()
        await self._socket.send(message)
        self.sending_since = inf

    async def refuse(self, text: str, code: int) -> str:
        """Tell the client what is wrong, and end the connection; return the text."""
        with suppress(require("websockets.exceptions", "serve").ConnectionClosed):
            self.sending_since = monotonic()
            await self._socket.send(text)
            self.sending_since = inf
            await self._socket.close(code, "see the text frame before")
        return text

    def let_go(self, seconds: float) -> None:
        """End the connection without a word: the client takes none."""
        self.slow, self.sending_since = f"took no answer for {seconds:g} s", inf
        self._socket.transport.abort()
