"""What no client may do to a policy server, or to the other robots: each keeps answering."""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import killed_clients
import numpy as np
import pytest
from served import CAMERA, Serving, Walk, ask, serving
from websockets.exceptions import ConnectionClosed

from hotloop.decoding import Executor
from hotloop.decoding.serving import codec

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(payload: bytes, opcode: int = 2) -> bytes:
    """A masked frame as clients send it; the mask of zeros changes nothing."""
    size = len(payload)
    head = bytes([0x80 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    else:
        head += bytes([0x80 | 126]) + struct.pack(">H", size)
    return head + bytes(4) + payload


REQUEST = codec.pack({"observation.state": np.array([0.1, 0.2], np.float32)})


@contextmanager
def beside_a_robot(running: Serving, horizon: int = 6) -> Generator[None, None, None]:
    """A robot asks all the while and gets exactly what it would get alone."""
    ended, found = threading.Event(), []
    client = running.connect()
    ask(client, seed=1, reset=True)

    def drive() -> None:
        while not ended.is_set():
            found.append(ask(client)["actions"][0])

    thread = threading.Thread(target=drive)
    thread.start()
    yield
    ended.set()
    thread.join()
    client.close()
    alone = Executor(Walk(horizon=horizon))
    alone.reset([1])
    state = {"observation.state": np.array([[0.1, 0.2]], np.float32)}
    expected = [alone.act(state)[0] for _ in range(len(found) + 1)]
    assert len(found) > 3
    np.testing.assert_array_equal(found, expected[1:])


def opened(running: Serving) -> socket.socket:
    """A connection that has shaken hands, by hand."""
    client = socket.create_connection(("127.0.0.1", running.port), timeout=20)
    client.sendall(UPGRADE)
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(4096)
    assert received.startswith(b"HTTP/1.1 101")
    return client


def reset(client: socket.socket) -> None:
    """End a connection as a machine does that loses its power and comes back."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_connections_that_break_at_any_byte_free_their_rows() -> None:
    whole, rng = UPGRADE + frame(REQUEST) * 3, random.Random(0)
    with serving(max_clients=8) as running, beside_a_robot(running):
        for _ in range(60):
            client = socket.create_connection(("127.0.0.1", running.port), timeout=0.05)
            # The server may have ended it already, or wait for the rest of the handshake.
            with suppress(OSError):
                client.sendall(whole[: rng.randrange(len(whole))])
                if rng.random() < 0.5:
                    client.recv(rng.randrange(1, 300))
            (reset if rng.random() < 0.5 else socket.socket.close)(client)
        running.wait_until(lambda: running.server.num_taken == 1)


def test_clients_that_are_killed_free_their_rows() -> None:
    """Real processes, at random instants."""
    with serving(Walk(duration=0.001), max_clients=4) as running, beside_a_robot(running):
        script = [sys.executable, str(Path(killed_clients.__file__))]
        subprocess.run([*script, running.address, "12", "0.08"], check=True)
        running.wait_until(lambda: running.server.num_taken == 1)
    assert running.server.metrics.connections > 2
    assert running.server.metrics.errors == {"request": 0, "policy": 0, "slow": 0}


def mutated(rng: random.Random, message: bytes) -> bytes:
    """A message with some bytes changed, lost or added."""
    data = bytearray(message)
    for _ in range(rng.randrange(1, 4)):
        where = rng.randrange(len(data) or 1)
        change = rng.randrange(4)
        if change == 0 and data:
            data[where % len(data)] = rng.randrange(256)
        elif change == 1:
            del data[where : where + rng.randrange(1, 6)]
        elif change == 2:
            data[where:where] = rng.randbytes(rng.randrange(1, 6))
        else:
            data[where : where + 1] = rng.choice([b"\xc4\x08", b"|O", b"\xdd\xff\xff\xff\xff"])
    return bytes(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: frame(mutated(rng, REQUEST)),
        lambda rng: mutated(rng, frame(REQUEST)),
        lambda rng: frame(rng.randbytes(rng.randrange(40)), rng.randrange(16)),
        lambda rng: rng.randbytes(rng.randrange(1, 60)),
    ],
    ids=["message", "frame", "opcode", "noise"],
)
def test_frames_of_any_content_harm_nobody(make: Callable[[random.Random], bytes]) -> None:
    rng = random.Random(3)
    with serving(max_clients=3) as running, beside_a_robot(running):
        for _ in range(60):
            with opened(running) as client, suppress(OSError):
                client.sendall(make(rng))
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass
        running.wait_until(lambda: running.server.num_taken == 1)
    assert running.server.metrics.errors["policy"] == 0


def test_a_client_that_reads_no_answers_is_let_go_of() -> None:
    plan = {"observation.state": np.zeros((2, 2), np.float32), "endpoint": "plan"}
    policy = Walk(horizon=4000)  # an answer fills as much of a buffer as those of many steps
    with serving(policy, send_timeout=0.3) as running, beside_a_robot(running, 4000):
        client = opened(running)
        client.settimeout(0.1)
        requests, sent = frame(codec.pack(plan)) * 100, 0
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                with suppress(TimeoutError):
                    sent = (sent + client.send(requests[sent:])) % len(requests)
        running.wait_until(lambda: running.server.num_taken == 1)
        running.wait_until(lambda: running.said[-1].endswith("took no answer for 0.3 s"))
        assert running.server.metrics.errors["slow"] == 1
        client.close()


def test_a_client_that_sends_ahead_is_answered_in_order() -> None:
    with serving() as running:
        client = running.connect()
        for _ in range(20):
            client.send(REQUEST)
        steps = [codec.unpack(client.recv(20))["step"] for _ in range(20)]
        assert steps == list(range(20))


def test_pictures_that_are_too_large_are_refused() -> None:
    policy = Walk(seeing=True)
    with serving(policy) as running:
        client = running.connect()
        request = {"observation.state": [0, 0], "prompt": "go"}
        client.send(codec.pack({**request, CAMERA: np.zeros((400, 500, 3), np.uint8)}))
        assert "resize it to 4 x 5" in str(client.recv(20))
        client = running.connect()
        with pytest.raises(ConnectionClosed) as closed:
            client.send(codec.pack({**request, CAMERA: np.zeros((3000, 2000, 3), np.uint8)}))
            client.recv(20)
        # A close frame may be lost with the rest of what was sent.
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
