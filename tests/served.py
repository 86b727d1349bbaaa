"""A policy without torch, and servers of it in a thread, for tests of what goes over the wire."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from websockets.sync.client import ClientConnection, connect

from hotloop.decoding import ActionSpec, ActionTrajectory, Observation, ObservationSpec
from hotloop.decoding.instruction import INSTRUCTION_KEY
from hotloop.decoding.serving import PolicyServer, ServerOptions, codec

CAMERA = "observation.images.top"


class Walk:
    """A policy whose plans depend on seed, step and every frame it sees.

    Args:
        num_steps: Newest frames that it reads.
        seeing: Whether it reads pictures too, and follows an instruction.
        duration: How long a plan takes [s].
        broken: Error of every plan of a row whose state is above 0.9.
        horizon: Actions per plan.
    """

    num_execute = 4

    def __init__(
        self,
        num_steps: int = 2,
        seeing: bool = False,
        duration: float = 0.0,
        broken: type[Exception] | None = None,
        horizon: int = 6,
    ) -> None:
        self.action_spec = ActionSpec(("x [m]", "y [m]"), (-10.0, -10.0), (10.0, 10.0), 0.1)
        shapes: dict[str, tuple[int, ...]] = {"observation.state": (2,)}
        if seeing:
            shapes |= {CAMERA: (4, 5, 3), INSTRUCTION_KEY: (16,)}
        self.observation_spec = ObservationSpec(shapes, num_steps)
        self.duration, self.broken, self.horizon = duration, broken, horizon
        self.groups: list[int] = []
        self._generators: list[np.random.Generator] = []

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        generators = [np.random.default_rng(int(seed)) for seed in seeds]
        if rows is None:
            self._generators = generators
        else:
            for row, generator in zip(rows, generators, strict=True):
                self._generators[row] = generator

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        state = observation.frames["observation.state"]  # (r, to, 2)
        if self.broken is not None and (state[:, -1] > 0.9).any():
            raise self.broken("state above 0.9 in /home/secret/policy.py")
        time.sleep(self.duration)
        self.groups.append(len(step))
        ahead = 0.01 * (np.arange(self.horizon) % 6)[None, :, None]
        actions = state.mean(axis=1)[:, None] + ahead + 0.001 * (step % 100)[:, None, None]
        shape = (self.horizon, 2)
        drawn = [self._generators[row].standard_normal(shape) for row in observation.rows]
        dt = self.action_spec.dt
        return ActionTrajectory.clean(actions + 0.1 * np.stack(drawn), step, observation.step, dt)


class Serving:
    """A server that runs, and clients for it.

    Attributes:
        server: The server.
        address: Where it is.
        said: What it told its operator.
        end: Ends the server.
    """

    def __init__(self, server: PolicyServer, said: list[str]) -> None:
        self.server, self.said = server, said
        self.address, self.clients = "", ExitStack()
        self.end: Callable[[], object] = lambda: None

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def connect(self, **options: Any) -> ClientConnection:
        """A plain client that has read the metadata; it is closed with the server at the latest."""
        client = self.clients.enter_context(
            connect(self.address, compression=None, proxy=None, close_timeout=0.2, **options)
        )
        self.metadata = codec.unpack(client.recv(10))
        return client

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, self.said
            time.sleep(0.005)


@contextmanager
def serving(
    policy: Any = None, about: Mapping[str, Any] | None = None, **options: Any
) -> Generator[Serving, None, None]:
    """Serve a policy on a free port until the end of the context; no row may stay taken."""
    said: list[str] = []
    made = ServerOptions(**{"port": 0, **options})
    running = Serving(
        PolicyServer(policy or Walk(), made, about or {"kind": "walk"}, said.append), said
    )
    started = threading.Event()
    loop, ended = asyncio.new_event_loop(), asyncio.Event()

    def ready(address: str) -> None:
        running.address = address
        started.set()

    thread = threading.Thread(
        target=lambda: loop.run_until_complete(running.server.serve(ready, ended)), daemon=True
    )
    running.end = lambda: loop.call_soon_threadsafe(ended.set)
    thread.start()
    try:
        assert started.wait(20)
        yield running
        running.clients.close()
        running.wait_until(lambda: running.server.num_taken == 0)
    finally:
        running.end()
        thread.join(20)
        loop.close()


def ask(client: ClientConnection, state: Any = (0.1, 0.2), **more: Any) -> dict[str, Any]:
    """One request with a state, and the reply."""
    client.send(codec.pack({"observation.state": np.asarray(state, np.float32), **more}))
    message = client.recv(20)
    assert isinstance(message, bytes), message
    return codec.unpack(message)


def refusal(client: ClientConnection, message: bytes | str) -> str:
    """What the server says to a message, after which it ends the connection."""
    client.send(message)
    text = client.recv(20)
    assert isinstance(text, str) and "\n" not in text
    return text


def plain_http(port: int, request: str) -> str:
    """What is answered to plain text on a connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(request.encode())
        parts = []
        while part := client.recv(4096):
            parts.append(part)
    return b"".join(parts).decode()
