"""The policy server, asked over real connections."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from served import CAMERA, Walk, ask, plain_http, refusal, serving
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hotloop.decoding import Executor
from hotloop.decoding.serving import ServerOptions, codec

STATE = "observation.state"


def states(seed: int, num: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.8, 0.8, (num, 2)).astype(np.float32)


def expected(policy: Walk, seed: int, seen: np.ndarray) -> np.ndarray:
    """What an executor on this machine does with the same states."""
    executor = Executor(policy)
    executor.reset([seed])
    return np.stack([executor.act({STATE: state[None]})[0] for state in seen])


def test_a_client_gets_the_metadata_and_then_an_action_per_step() -> None:
    with serving() as running, running.connect() as client:
        found = running.metadata
        assert found["mode"] == "step" and found["about"] == {"kind": "walk"}
        assert (found["num_obs_steps"], found["num_execute"], found["dt"]) == (2, 4, 0.1)
        assert found["observation"] == {STATE: {"shape": [2], "dtype": "float32"}}
        assert found["action"] == {
            "names": ["x [m]", "y [m]"], "low": [-10.0, -10.0], "high": [10.0, 10.0]
        }  # fmt: skip
        seen = states(0, 9)
        replies = [ask(client, state) for state in seen]
        actions = np.concatenate([reply["actions"] for reply in replies])
        np.testing.assert_array_equal(actions, expected(Walk(), 0, seen))
        assert [reply["step"] for reply in replies] == list(range(9))
        assert replies[0]["server_timing"].keys() == {"infer_ms", "queue_ms"}
        assert replies[1]["server_timing"].keys() == {"infer_ms", "queue_ms", "prev_total_ms"}
        # openpi's broker slices every array of a reply along time.
        assert [key for key, value in replies[0].items() if isinstance(value, np.ndarray)] == [
            "actions"
        ]


@pytest.mark.parametrize("wait_ms", [0.0, 50.0])
def test_robots_that_share_forwards_get_what_they_would_get_alone(wait_ms) -> None:
    policy = Walk(duration=0.002)
    with serving(policy, max_clients=6, wait_ms=wait_ms) as running:
        clients = [running.connect() for _ in range(6)]
        seen = [states(index, 12) for index in range(6)]
        found: dict[int, list[np.ndarray]] = {index: [] for index in range(6)}

        def drive(index: int) -> None:
            for state in seen[index]:
                more = {} if found[index] else {"seed": 70 + index, "reset": True}
                found[index].append(ask(clients[index], state, **more)["actions"][0])

        threads = [threading.Thread(target=drive, args=[index]) for index in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()
        for index in range(6):
            alone = expected(Walk(), 70 + index, seen[index])
            np.testing.assert_array_equal(found[index], alone)
        assert max(policy.groups) > 1


def test_an_episode_begins_with_a_connection_a_reset_or_another_session() -> None:
    seen = states(1, 3)
    with serving(seed=10) as running:
        with running.connect() as client:
            first = [ask(client, state)["actions"][0] for state in seen]
            np.testing.assert_array_equal(first, expected(Walk(), 10, seen))
            client.send(codec.pack({"endpoint": "reset", "seed": 3}))
            assert codec.unpack(client.recv(10)) == {"status": "reset successful"}
            reply = ask(client, seen[0], session_id="a")
            assert reply["step"] == 0
            np.testing.assert_array_equal(reply["actions"], expected(Walk(), 3, seen[:1]))
            assert ask(client, seen[1], session_id="a")["step"] == 1
            assert ask(client, seen[1], session_id="b")["step"] == 0
            assert ask(client, seen[1], session_id="b", reset=False)["step"] == 1
            assert ask(client, seen[1], reset=True)["step"] == 0
        running.wait_until(lambda: running.server.num_taken == 0)
        with running.connect() as client:
            fresh = ask(client, seen[0])["actions"]
            np.testing.assert_array_equal(fresh, expected(Walk(), 14, seen[:1]))


def test_a_chunk_server_answers_with_all_actions_that_are_ready() -> None:
    with serving(mode="chunk") as running, running.connect() as client:
        stacked = np.stack([states(0, 2), states(1, 2)])
        first, second = (ask(client, frames) for frames in stacked)
        assert first["actions"].shape == (6, 2)
        assert (first["step"], second["step"]) == (0, 4)
        assert "gap" not in second
        late = ask(client, stacked[0], step=9)
        assert (late["step"], late["gap"]) == (9, True)
        text = refusal(client, codec.pack({STATE: np.zeros(2)}))
        assert "must have shape (2, 2), got (2,)" in text and "newest 2 frames" in text


def test_one_frame_is_enough_for_a_plan_of_a_policy_that_reads_one() -> None:
    with serving(Walk(num_steps=1), mode="chunk") as running, running.connect() as client:
        assert ask(client)["actions"].shape == (6, 2)
        assert ask(client, [[0.1, 0.2]])["actions"].shape == (6, 2)


def test_keys_of_openpi_pictures_and_a_prompt_are_understood() -> None:
    with serving(Walk(seeing=True)) as running, running.connect() as client:
        assert running.metadata["instruction"]
        assert running.metadata["observation"][CAMERA] == {"shape": [4, 5, 3], "dtype": "uint8"}
        request = {
            "observation/state": [0.1, 0.2], CAMERA: np.zeros((4, 5, 3), np.uint8),
            "prompt": "lift it", "observation/depth": np.zeros((4, 5)),
        }  # fmt: skip
        client.send(codec.pack(request))
        assert codec.unpack(client.recv(10))["actions"].shape == (1, 2)
        text = refusal(client, codec.pack({**request, CAMERA: np.zeros((3, 4, 5), np.uint8)}))
        assert "its channels come first" in text


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("hello", "binary frames of msgpack"),
        (b"\xc1", "not a message of plain data"),
        (b"", "not a message of plain data"),
        (codec.pack([1]), "a map of observations, got list"),
        (codec.pack({"observation.stat": [1, 2]}), "'observation.state' is missing; the policy"),
        (codec.pack({STATE: np.zeros(3)}), "must have shape (2,), got (3,): one frame at a time"),
        (codec.pack({STATE: np.zeros((2, 2))}), "must have shape (2,), got (2, 2)"),
        (codec.pack({STATE: [1.0, float("nan")]}), "NaN or infinite"),
        (codec.pack({STATE: [1e300, 0]}), "NaN or infinite"),
        (codec.pack({STATE: ["a", "b"]}), "an array of numbers"),
        (codec.pack({STATE: [[1], [1, 2]]}), "an array of numbers"),
        (codec.pack({STATE: None}), "an array of numbers"),
        (codec.pack({STATE: [1, 2], "endpoint": "kill"}), "one of infer, plan, reset, got 'kill'"),
        (codec.pack({STATE: [1, 2], "endpoint": {}}), "one of infer, plan, reset"),
        (codec.pack({STATE: [1, 2], "reset": "yes"}), "reset must be true or false"),
        (codec.pack({STATE: [1, 2], "seed": -1}), "seed must be a whole number"),
        (codec.pack({STATE: [1, 2], "seed": True}), "seed must be a whole number"),
        (codec.pack({STATE: [1, 2], "seed": 2**63}), "seed must be a whole number"),
        (codec.pack({STATE: [1, 2], "session_id": 3}), "session_id must be a text"),
        (
            codec.pack(
                {STATE: np.zeros((2, 2)), "endpoint": "plan", "step": 1, "observed_step": 2}
            ),
            "observed_step 2 is later than step 1",
        ),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong_and_the_connection_ends(message, told) -> None:
    with serving() as running, running.connect() as other, running.connect() as client:
        assert told in refusal(client, message)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(10)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
        assert ask(other)["step"] == 0
        assert running.server.metrics.errors["request"] == 1


@pytest.mark.parametrize(("kind", "stacks"), [("infer", (2,)), ("plan", (2, 2))])
def test_a_policy_that_fails_for_one_robot_goes_on_for_the_others(kind, stacks) -> None:
    """They share its forward; what failed is told the operator, without a path to the client."""
    policy = Walk(duration=0.05, broken=RuntimeError)
    with serving(policy, wait_ms=500.0, max_clients=3) as running:
        clients = [running.connect() for _ in range(3)]
        for value, client in zip((0.2, 0.95, 0.3), clients, strict=True):
            client.send(codec.pack({STATE: np.full(stacks, value, np.float32), "endpoint": kind}))
        texts = [client.recv(20) for client in clients]
        assert texts[1] == "the policy failed; the server's own output says how"
        assert any("state above 0.9" in line for line in running.said)
        assert all(isinstance(texts[index], bytes) for index in (0, 2))
        first = codec.unpack(texts[0])["actions"]
        alone = Executor(Walk())
        alone.reset([0])
        np.testing.assert_array_equal(
            first[:1], alone.act({STATE: np.full((1, 2), 0.2, np.float32)})
        )
        for client in clients:
            client.close()


class Moody(Walk):
    """Begins no episode of an odd seed."""

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        if rows is not None and (seeds % 2).any():
            raise RuntimeError("an odd seed")
        super().reset(seeds, rows)


def test_a_policy_that_begins_no_episode_of_one_robot_goes_on_for_the_others() -> None:
    with serving(Moody(), wait_ms=500.0, max_clients=2) as running:
        clients = [running.connect() for _ in range(2)]
        for seed, client in enumerate(clients):
            client.send(codec.pack({STATE: [0.1, 0.2], "seed": seed, "reset": True}))
        assert codec.unpack(clients[0].recv(20))["step"] == 0
        assert clients[1].recv(20) == "the policy failed; the server's own output says how"
        clients[0].close()


def test_what_a_client_writes_does_nothing_to_the_operators_terminal() -> None:
    with serving() as running, running.connect() as client:
        assert "got \\x1b[2Jé" in refusal(client, codec.pack({"\x1b[2Jé": 1}))
        running.wait_until(lambda: "missing" in running.said[-1])
        assert all(line.isprintable() for line in running.said)


def test_more_robots_than_rows_are_told_so_and_a_row_is_free_again() -> None:
    with serving(max_clients=1) as running:
        with running.connect() as client:
            with pytest.raises(InvalidStatus) as refused:
                running.connect()
            assert refused.value.response.status_code == 503
            assert b"all 1 rows are taken; max_clients" in refused.value.response.body
            ask(client)
        running.wait_until(lambda: running.server.num_taken == 0)
        with running.connect() as client:
            assert ask(client)["step"] == 0
        assert running.server.metrics.refused["full"] == 1


def test_health_and_metrics_are_plain_http() -> None:
    with serving(max_clients=3) as running, running.connect() as client:
        ask(client)
        health = plain_http(running.port, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert health.startswith("HTTP/1.1 200 OK") and health.endswith("OK\n")
        text = plain_http(running.port, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        lines = text.partition("\r\n\r\n")[2].splitlines()
        for line in (
            'hotloop_requests_total{kind="act"} 1', "hotloop_rows_taken 1", "hotloop_rows 3",
            "hotloop_plans_total 1", "hotloop_infer_seconds_count 1",
            'hotloop_group_rows_bucket{le="1"} 1', "# TYPE hotloop_queue_seconds histogram",
        ):  # fmt: skip
            assert line in lines


def test_the_server_ends_with_the_answers_that_are_under_way() -> None:
    with serving(Walk(duration=0.3)) as running:
        client = running.connect()
        client.send(codec.pack({STATE: [0.1, 0.2]}))
        running.wait_until(lambda: running.server.metrics.requests["act"] == 1)
        running.end()
        assert codec.unpack(client.recv(10))["step"] == 0
        with pytest.raises(ConnectionClosed):
            client.recv(10)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"host": "0.0.0.0"}, "can be reached by others"),
        ({"host": ""}, "can be reached by others"),
        ({"port": 70000}, "port must be"),
        ({"max_clients": 0}, "at least 1"),
        ({"mode": "chunks"}, "one of step, chunk"),
        ({"wait_ms": -1.0}, "wait_ms must be"),
        ({"seed": 2**63 - 1}, "seed 0 to 9.0072e"),
        ({"tls_cert": "a.pem"}, "both tls_cert and tls_key"),
    ],
)
def test_impossible_and_open_servers_are_refused(options, told) -> None:
    with pytest.raises(ValueError, match=told):
        ServerOptions(**options)
    assert ServerOptions(host="0.0.0.0", token="secret").scheme == "ws"
    assert "secret" not in repr(ServerOptions(token="secret"))
