"""A policy for robots that ask over a websocket; clients of openpi do so unchanged.

A connection gets the policy's metadata first, then an answer to each of its requests. It owns a
row of the policy from its beginning to its end, and begins an episode. ``GET /healthz`` says
whether the server is up, ``GET /metrics`` what it counted.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from time import monotonic, perf_counter
from typing import Any

from ..interface import Policy
from ..plumbing.extras import require
from . import codec
from .groups import Groups, Timed
from .metadata import describe
from .metrics import Metrics
from .options import ServerOptions
from .requests import Request, RequestReader
from .rows import Rows, Work
from .session import Session

MAX_MESSAGE = 16 << 20  # [bytes]
# Silent connections are asked for a sign of life, and let go of without one [s].
PING_INTERVAL = PING_TIMEOUT = 20.0
# A server that ends waits so long for answers that are under way [s].
LAST_ANSWERS = 5.0
# Close codes of websockets: what is wrong with a request, with the server, and no row is free.
BAD_REQUEST, INTERNAL, TRY_LATER = 1008, 1011, 1013


class PolicyServer:
    """Serves one policy.

    Args:
        policy: What to run.
        options: Address, rows and access.
        about: What else clients are told of the policy, plain data.
        say: Told what an operator should know, a line at a time.

    Attributes:
        metrics: What was counted so far.
    """

    def __init__(
        self,
        policy: Policy,
        options: ServerOptions,
        about: Mapping[str, Any] | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self._options, self._say = options, say
        self.metrics = Metrics()
        self._rows = Rows(policy, options.max_clients)
        self._reader = RequestReader(policy.observation_spec, options.mode)
        self._metadata = codec.pack(describe(policy, options.mode, about or {}))
        self._num_execute = policy.num_execute
        self._free = list(range(options.max_clients))[::-1]
        self._num_episodes = 0
        self._sessions: set[Session] = set()
        self._groups: Groups | None = None
        self._ends = False
        self._closed = require("websockets.exceptions", "serve").ConnectionClosed

    @property
    def num_taken(self) -> int:
        """Rows that belong to a robot now."""
        return self._options.max_clients - len(self._free)

    def warm_up(self) -> None:
        """Let the policy prepare what it needs for its first plans; before the server runs."""
        sizes = self._rows.warm_up()
        missing = self._options.max_clients - len(sizes)
        if missing:
            self._say(f"warmed up for groups of {sizes} robots; others take longer at first")

    def run(self, started: Callable[[str], None]) -> None:
        """Serve until SIGINT or SIGTERM; in the main thread.

        Args:
            started: Told the server's address once it answers.
        """
        asyncio.run(self._until_signal(started))

    async def _until_signal(self, started: Callable[[str], None]) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end(number: signal.Signals) -> None:
            # A second one ends it at once.
            loop.remove_signal_handler(number)
            ended.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end, number)
        await self.serve(started, ended)

    async def serve(self, started: Callable[[str], None], ended: asyncio.Event) -> None:
        """Serve until `ended` is set; robots that are waiting get their answers.

        Raises:
            OSError: If the address cannot be listened at.
            ValueError: If the certificate is none.
        """
        options = self._options
        server = require("websockets.asyncio.server", "serve")
        # What others send is no defect of ours, and no traceback on the operator's screen.
        quiet = logging.getLogger(f"{__name__}.connections")
        quiet.setLevel(logging.CRITICAL + 1)
        tls = options.ssl_context()
        groups = Groups(self._rows, options.wait_ms / 1e3, lambda: self.num_taken, self.metrics)
        self._groups = groups
        try:
            async with server.serve(
                self._converse, options.host, options.port, process_request=self._admit,
                origins=[None], ssl=tls, compression=None, max_size=MAX_MESSAGE, max_queue=1,
                ping_interval=PING_INTERVAL, ping_timeout=PING_TIMEOUT, close_timeout=1.0,
                logger=quiet, server_header=None,
            ) as listening:  # fmt: skip
                host, port = next(iter(listening.sockets)).getsockname()[:2]
                host = f"[{host}]" if ":" in host else host
                started(f"{options.scheme}://{host}:{port}")
                while not ended.is_set():
                    with suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(ended.wait(), min(1.0, options.send_timeout))
                    self._let_go_of_slow_readers()
                await self._finish()
        finally:
            groups.close()

    async def _finish(self) -> None:
        """Let nobody in any more, and wait a little for the answers that are under way."""
        self._ends = True
        deadline = monotonic() + LAST_ANSWERS
        while monotonic() < deadline and any(one.is_asking for one in self._sessions):
            await asyncio.sleep(0.005)

    def _admit(self, connection: Any, request: Any) -> Any:
        """Answer plain HTTP, and turn away who may not connect; None lets a robot in."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            return connection.respond(HTTPStatus.OK, "OK\n")
        if not self._options.admits(request.headers.get_all("Authorization")):
            self.metrics.refused["token"] += 1
            return connection.respond(
                HTTPStatus.UNAUTHORIZED,
                "this policy server needs a token: 'Authorization: Api-Key TOKEN'\n",
            )
        if path == "/metrics":
            text = self.metrics.text(self._rows.num_plans, self.num_taken, self._rows.num_rows)
            return connection.respond(HTTPStatus.OK, text)
        if not self._free or self._ends:
            self.metrics.refused["full"] += 1
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, self._full() + "\n")
        return None

    def _full(self) -> str:
        if self._ends:
            return "the server ends"
        return f"all {self._rows.num_rows} rows are taken; max_clients=… gives the server more"

    async def _converse(self, socket: Any) -> None:
        """Answer one robot until it leaves, and free its row then whatever happened."""
        if not self._free:  # Another one was faster.
            self.metrics.refused["full"] += 1
            await socket.close(TRY_LATER, self._full())
            return
        session = Session(self._free.pop(), socket, self._num_execute)
        self._sessions.add(session)
        self.metrics.connections += 1
        reason = "left"
        try:
            self._say(f"row {session.row}: {session.peer} connected")
            await session.send(self._metadata)
            async for message in socket:
                session.is_asking = True
                error = await self._respond(session, message)
                session.is_asking = False
                if error or self._ends:
                    reason = error or "the server ends"
                    break
        except self._closed:
            reason = session.slow or "connection lost"
        finally:
            self._sessions.discard(session)
            self._free.append(session.row)
            self._say(f"row {session.row}: {session.peer}: {reason}")

    async def _respond(self, session: Session, message: str | bytes) -> str:
        """Answer one message; return what was wrong with it, after which the connection is over."""
        begin = perf_counter()
        try:
            if isinstance(message, str):
                raise ValueError("requests are binary frames of msgpack, got a text frame")
            request = self._reader.read(codec.unpack(message))
        except ValueError as error:
            self.metrics.errors["request"] += 1
            return await session.refuse(_one_line(error), BAD_REQUEST)
        try:
            reply = await self._reply(session, request)
        except Exception as error:  # noqa: BLE001 - a stranger's policy can fail in any way
            self.metrics.errors["policy"] += 1
            if not isinstance(error, ValueError):
                # It is a defect: all of it for the operator, who can mend it, nothing for others.
                self._say("".join(traceback.format_exception(error)))
                error = ValueError("the policy failed; the server's own output says how")
            return await session.refuse(_one_line(error), INTERNAL)
        await session.send(reply)
        session.previous_s = perf_counter() - begin
        return ""

    async def _reply(self, session: Session, request: Request) -> bytes:
        assert self._groups is not None
        self.metrics.requests[request.kind] += 1
        if session.begins(request):
            seed = request.seed
            session.seed = self._options.seed + self._num_episodes if seed is None else seed
            self._num_episodes += 1
        if request.kind == "reset":
            return codec.pack({"status": "reset successful"})
        step, gap = session.step_of(request)
        seed, session.seed = session.seed, None
        timed = await self._groups.ask(Work(session.row, request, step, seed))
        session.went_on(request, step)
        return codec.pack(_answer(timed, step, session.previous_s) | ({"gap": True} if gap else {}))

    def _let_go_of_slow_readers(self) -> None:
        for session in self._sessions:
            if monotonic() - session.sending_since > self._options.send_timeout:
                self.metrics.errors["slow"] += 1
                session.let_go(self._options.send_timeout)


def _answer(timed: Timed, step: int, previous_s: float | None) -> dict[str, Any]:
    """A reply as openpi's clients read it: its only array is that of the actions."""
    answer, queue_s = timed
    infer_ms = 1e3 * answer.infer_s
    timing = {"infer_ms": infer_ms, "queue_ms": 1e3 * queue_s}
    if previous_s is not None:
        timing["prev_total_ms"] = 1e3 * previous_s
    return {
        "actions": answer.actions,
        "step": step,
        "policy_timing": {"infer_ms": infer_ms},
        "server_timing": timing,
    }


def _one_line(error: Exception) -> str:
    """What is said of an error, without what would do something to the operator's terminal."""
    line = " ".join(str(error).split())
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in line)
