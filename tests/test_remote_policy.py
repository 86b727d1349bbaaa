"""A policy that is served elsewhere, behind the contract."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from served import CAMERA, Walk, serving
from websockets.server import ServerProtocol
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_anything

from hotloop.decoding import Executor, NotReady, Observation
from hotloop.decoding.conformance import PolicyConformance
from hotloop.decoding.instruction import INSTRUCTION_KEY, encode_instruction
from hotloop.decoding.serving import RemotePolicy, codec
from hotloop.decoding.serving.metadata import describe


@pytest.fixture(scope="module")
def policy() -> Generator[RemotePolicy, None, None]:
    with serving() as running:
        policy = RemotePolicy(running.address)
        yield policy
        policy.close()


class TestRemotePolicy(PolicyConformance):
    """Inherits every rule of the contract."""


def test_an_executor_gets_what_the_policy_itself_would_give() -> None:
    with serving(Walk(seeing=True)) as running:
        remote = RemotePolicy(running.address)
        assert remote.about == {"kind": "walk"}
        here, there = Executor(Walk(seeing=True), latency=1), Executor(remote, latency=1)
        for executor in (here, there):
            executor.reset([5, 6])
        rng = np.random.default_rng(0)
        text = np.stack([encode_instruction("lift it", 16)] * 2)
        for step in range(12):
            if step == 7:
                for executor in (here, there):
                    executor.reset([9], np.array([1]))
            frame = {
                "observation.state": rng.uniform(-1, 1, (2, 2)).astype(np.float32),
                CAMERA: rng.integers(0, 256, (2, 4, 5, 3), np.uint8),
                INSTRUCTION_KEY: text.astype(np.float32),
            }
            np.testing.assert_array_equal(here.act(frame), there.act(frame))
        remote.close()


FRAME = {"observation.state": np.zeros((1, 2), np.float32)}


def test_a_late_answer_is_never_used_and_the_next_one_is_fresh() -> None:
    policy, told = Walk(), []
    with serving(policy) as running:
        remote = RemotePolicy(running.address, timeout=5.0, tell=told.append)
        executor = Executor(remote, num_execute=1)
        executor.reset([3])
        executor.act(FRAME)
        remote.timeout, policy.duration = 0.05, 0.3
        began = time.monotonic()
        with pytest.raises(NotReady):
            executor.act({"observation.state": np.full((1, 2), 0.5, np.float32)})
        assert time.monotonic() - began < 0.3, "it does not wait for the late one"
        assert len(told) == 1 and "did not answer in time" in told[0]
        remote.timeout, policy.duration = 5.0, 0.0
        time.sleep(0.5)
        state = np.full((1, 2), -0.5, np.float32)
        action = executor.act({"observation.state": state})
        assert told[1].endswith("answers again")
        # Its connection is new, so its episode began anew, with its own seed.
        expected = Walk()
        expected.reset(np.array([3]))
        drawn = 0.1 * np.random.default_rng(3).standard_normal((6, 2))[0]
        seen = np.mean([[0.5, 0.5], [-0.5, -0.5]], axis=0)
        np.testing.assert_allclose(action[0], seen + 0.001 + drawn, atol=1e-6)
        remote.close()


def test_a_server_that_is_gone_leaves_no_action_and_one_that_is_back_is_used() -> None:
    told: list[str] = []
    with serving() as running:
        remote = RemotePolicy(running.address, timeout=2.0, tell=told.append)
        executor = Executor(remote, num_execute=1)
        executor.reset([0])
        executor.act(FRAME)
        port = running.port
        running.end()
        running.wait_until(lambda: running.server.num_taken == 0)
    for _ in range(3):
        with pytest.raises(NotReady):
            executor.act(FRAME)
    assert len(told) == 1, "it is told once"
    with serving(port=port) as running:
        time.sleep(0.6)
        assert executor.act(FRAME).shape == (1, 2)
        assert told[-1].endswith("answers again")
        remote.close()
    with serving(Walk(num_steps=1), port=port):
        time.sleep(0.6)
        with pytest.raises(ValueError, match="serves another policy than before"):
            executor.act(FRAME)
        remote.close()


def test_before_its_first_answer_a_silent_server_is_an_error() -> None:
    policy = Walk(duration=0.5)
    with serving(policy) as running:
        remote = RemotePolicy(running.address, timeout=0.1)
        executor = Executor(remote)
        executor.reset([0])
        with pytest.raises(TimeoutError, match="did not answer in time"):
            executor.act(FRAME)
        remote.close()


def test_a_request_that_the_server_refuses_is_an_error_with_its_words() -> None:
    with serving(Walk(broken=ValueError)) as running:
        remote = RemotePolicy(running.address)
        executor = Executor(remote)
        executor.reset([0])
        with pytest.raises(ValueError, match=r"refuses: state above 0.9"):
            executor.act({"observation.state": np.ones((1, 2), np.float32)})
        remote.close()


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (codec.pack({"camera": "left"}), "no server of hotloop"),
        (codec.pack({"hotloop": "9", "mode": "dance"}), "another version of hotloop"),
        (b"\xc1", "not a message"),
    ],
)
def test_other_servers_are_refused(first, told) -> None:
    with serve_anything(lambda client: client.send(first), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            port = server.socket.getsockname()[1]
            with pytest.raises(ValueError, match=told):
                RemotePolicy(f"ws://127.0.0.1:{port}")
        finally:
            server.shutdown()
            thread.join()


def test_addresses_where_nobody_is_and_that_are_none_are_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ConnectionError, match=r"no policy server .*refused.*hotloop serve NAME"):
        RemotePolicy(f"ws://127.0.0.1:{port}")
    with pytest.raises(ValueError, match="is no address; write ws://HOST:PORT"):
        RemotePolicy("ws://")
    with serving(max_clients=1) as running:
        remote = RemotePolicy(running.address)
        with pytest.raises(ConnectionError, match="lets nobody in: all 1 rows are taken"):
            RemotePolicy(running.address)
        remote.close()


def metadata(**changes: object) -> bytes:
    """What a server says first."""
    return codec.pack(describe(Walk(), "step", {}) | changes)


@contextmanager
def anything(handler: Callable[[ServerConnection], None]) -> Generator[str, None, None]:
    """The address of a server that does what `handler` does with each connection."""
    with serve_anything(handler, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


def test_an_answer_that_an_error_left_unread_is_never_used() -> None:
    """One robot's request is refused: the answer to the other's is not that to its next."""
    answered = threading.Event()

    def handler(connection: ServerConnection) -> None:
        connection.send(metadata())
        for message in connection:
            asked = codec.unpack(bytes(message))
            if asked["seed"] == 0 and asked["step"] == 1:
                answered.wait(10)
                connection.send("no")
            else:
                connection.send(codec.pack({"actions": np.full((4, 2), float(asked["step"]))}))
                answered.set()

    rows = np.arange(2)
    frames = {"observation.state": np.zeros((2, 2, 2), np.float32)}
    with anything(handler) as address:
        remote = RemotePolicy(address, tell=lambda text: None)
        remote.reset(rows)
        with pytest.raises(ValueError, match="refuses: no"):
            remote.plan(Observation(frames, rows, rows), np.full(2, 1))
        later = np.full(2, 5)
        plan = remote.plan(Observation(frames, later, rows), later)
        assert plan.valid.any() and (plan.actions[plan.valid] == 5.0).all()
        remote.close()


@contextmanager
def deaf(first: bytes) -> Generator[str, None, None]:
    """The address of a server that says something and then reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as held:

        def accept() -> None:
            connected = held.enter_context(listening.accept()[0])
            protocol, requests = ServerProtocol(), []
            while not requests:
                protocol.receive_data(connected.recv(1 << 16))
                requests = protocol.events_received()
            protocol.send_response(protocol.accept(requests[0]))
            protocol.send_binary(first)
            connected.sendall(b"".join(protocol.data_to_send()))

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def test_a_server_that_takes_no_pictures_is_given_up_in_time() -> None:
    """Else a robot would wait as long as the library and the system try to send, 40 s or more."""
    told, shape = list[str](), (2000, 2000, 3)
    with deaf(metadata(observation={CAMERA: {"shape": shape, "dtype": "uint8"}})) as address:
        remote = RemotePolicy(address, timeout=0.3, tell=told.append)
        remote.reset(np.zeros(1, int))
        rows, frames = np.zeros(1, int), {CAMERA: np.zeros((1, 2, *shape), np.uint8)}
        began = time.monotonic()
        with pytest.raises(ConnectionError, match="is lost"):
            remote.plan(Observation(frames, rows, rows), rows)
        assert time.monotonic() - began < 20
        remote.close()


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("hello", "no server of hotloop"),
        (metadata(num_execute=0), "executes 0 actions"),
        (metadata(num_obs_steps=0), "reads 0 frames"),
        (metadata(observation={}), r"frames of \[\]"),
        (metadata(observation={"a": {"shape": [-1], "dtype": "float32"}}), r"shape \(-1,\)"),
    ],
)
def test_a_server_that_says_what_no_policy_is_like_is_refused(first, told) -> None:
    with (
        anything(lambda connection: connection.send(first)) as address,
        pytest.raises(ValueError, match=told),
    ):
        RemotePolicy(address)


@pytest.mark.parametrize(
    "actions", [np.array([["a", "b"]]), np.zeros(2), np.array([[True, False]])]
)
def test_answers_that_are_no_actions_are_refused(actions) -> None:
    def handler(connection: ServerConnection) -> None:
        connection.send(metadata())
        connection.recv()
        connection.send(codec.pack({"actions": actions}))

    with anything(handler) as address:
        remote = RemotePolicy(address)
        executor = Executor(remote)
        executor.reset([0])
        with pytest.raises(ValueError, match="answered with actions of shape"):
            executor.act(FRAME)


def test_a_token_of_two_lines_is_refused_before_it_is_sent() -> None:
    with serving(token="secret") as running:
        RemotePolicy(running.address, token="secret\r\n").close()
        with pytest.raises(ValueError, match="control characters"):
            RemotePolicy(running.address, token="secret\r\nX: y")
