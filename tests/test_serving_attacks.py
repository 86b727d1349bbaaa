"""What no client may do to a policy server, or to the other robots: each keeps answering."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from benchmarks import killed_clients
from benchmarks.attacks import FUZZED, break_off, fuzz, read_nothing
from served import CAMERA, Serving, Walk, ask, serving
from websockets.exceptions import ConnectionClosed

from hotloop.decoding import Executor
from hotloop.decoding.serving import codec

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


def test_connections_that_break_at_any_byte_free_their_rows() -> None:
    rng = random.Random(0)
    with serving(max_clients=8) as running, beside_a_robot(running):
        for _ in range(60):
            break_off(running.port, REQUEST, rng)
        running.wait_until(lambda: running.server.num_taken == 1)


def test_clients_that_are_killed_free_their_rows() -> None:
    """Real processes, at random instants."""
    with serving(Walk(duration=0.001), max_clients=4) as running, beside_a_robot(running):
        script = [sys.executable, str(Path(killed_clients.__file__))]
        subprocess.run([*script, running.address, "12", "0.05"], check=True)
        running.wait_until(lambda: running.server.num_taken == 1)
    assert running.server.metrics.connections >= 1 + 6
    assert running.server.metrics.errors == {"request": 0, "policy": 0, "slow": 0}


@pytest.mark.parametrize("kind", FUZZED)
def test_frames_of_any_content_harm_nobody(kind: str) -> None:
    rng = random.Random(3)
    with serving(max_clients=3) as running, beside_a_robot(running):
        for _ in range(60):
            fuzz(running.port, REQUEST, kind, rng)
            running.wait_until(lambda: running.server.num_taken == 1)
    assert running.server.metrics.errors["policy"] == 0


def test_a_client_that_reads_no_answers_is_let_go_of() -> None:
    plan = {"observation.state": np.zeros((2, 2), np.float32), "endpoint": "plan"}
    policy = Walk(horizon=4000)  # an answer fills as much of a buffer as those of many steps
    with serving(policy, send_timeout=0.3) as running, beside_a_robot(running, 4000):
        assert read_nothing(running.port, codec.pack(plan), longest=20)
        running.wait_until(lambda: running.server.num_taken == 1)
        running.wait_until(lambda: running.said[-1].endswith("took no answer for 0.3 s"))
        assert running.server.metrics.errors["slow"] == 1


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
