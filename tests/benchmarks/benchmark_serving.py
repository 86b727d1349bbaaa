"""A policy server under load and under attack; writes results/serving.json.

    HOTLOOP_OPENPI=PYTHON python tests/benchmarks/benchmark_serving.py results/serving.json

PYTHON is that of an environment with openpi-client==0.1.2 and typing_extensions alone. First round
trips over loopback with that client: so many robots as threads of one process, each asking again as
soon as it is answered. Then faults: one robot asks 50 times a second all the while, for its latency
beside nobody, beside a robot that behaves, and beside each kind of client that does not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from attacks import FUZZED, break_off, frame, fuzz, opened, read_nothing
from result_rows import Results
from websockets.sync.client import connect

from hotloop.decoding.serving import codec

HERE = Path(__file__).parent
HOTLOOP = [sys.executable, "-m", "hotloop.train.cli"]
RATE = 50.0  # Requests per second of the robot that everybody else disturbs.
# By name: checkpoint, sampling, and observations.
POLICIES = {
    "pusht-sdp, one call": ("pusht-sdp", ["sampling.calls_per_step=1"]),
    "pusht-dp, DDIM-10": ("pusht-dp", ["sampling.calls_per_step=10", "sampling.update=ddim"]),
}


class Server:
    """A running `hotloop serve`.

    Attributes:
        port: Its port.
        process: Its process.
    """

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def count(self, name: str) -> float:
        """One of its metrics."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/metrics", headers={"Authorization": "Bearer secret"}
        )
        text = opener.open(request, timeout=20).read().decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert found is not None, name
        return float(found[1])


@contextmanager
def served(checkpoint: str, *overrides: str, token: str = "") -> Generator[Server, None, None]:
    environment = os.environ | ({"HOTLOOP_TOKEN": token} if token else {})
    process = subprocess.Popen(
        [*HOTLOOP, "serve", checkpoint, "port=0", "max_clients=40", *overrides],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    output = process.stdout
    line = next(line for line in output if " at ws" in line)
    # What it goes on to say has to be read, or it would wait for that.
    threading.Thread(target=output.read, daemon=True).start()
    try:
        yield Server(process, int(line.rpartition(":")[2]))
    finally:
        process.kill()
        process.wait()


def statistics(seconds: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3), "n": len(seconds)}


def round_trips(server: Server, python: str, robots: int, seconds: float) -> dict[str, Any]:
    """Round trips of so many robots with openpi's client."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    command = [python, HERE.parent / "compat" / "use_openpi.py", "time", server.address]
    found = subprocess.run(
        [*map(str, command), str(robots), str(seconds)],
        check=True, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    times = json.loads(found.stdout.splitlines()[-1])["round_trips_s"]
    return statistics(times) | {"decisions_per_s": round(len(times) / seconds, 1)}


def request_of(metadata: dict[str, Any]) -> bytes:
    observation = metadata["observation"]
    return codec.pack(
        {key: np.zeros(one["shape"], one["dtype"]) for key, one in observation.items()}
    )


def robot_beside(
    server: Server, disturb: Callable[[bytes], object], seconds: float
) -> dict[str, Any]:
    """Latency of a robot at a steady rate while something else goes on, again and again [s]."""
    header = {"Authorization": "Api-Key secret"}
    with connect(server.address, compression=None, proxy=None, additional_headers=header) as client:
        request = request_of(codec.unpack(client.recv(20)))
        ends = time.monotonic() + seconds

        def go_on() -> None:
            disturb(request)
            while time.monotonic() < ends:
                disturb(request)

        thread = threading.Thread(target=go_on)
        times, steps = list[float](), list[int]()
        thread.start()
        due = time.perf_counter()
        while thread.is_alive():
            due = max(due + 1 / RATE, time.perf_counter())
            time.sleep(max(due - time.perf_counter(), 0.0))
            begin = time.perf_counter()
            client.send(request)
            reply = codec.unpack(client.recv(20))
            times.append(time.perf_counter() - begin)
            steps.append(reply["step"])
        assert steps == list(range(len(steps))), "its episode went on"
    deadline = time.monotonic() + 30
    while server.count("hotloop_rows_taken") and time.monotonic() < deadline:
        time.sleep(0.1)
    return statistics(times) | {
        "rows_leaked": int(server.count("hotloop_rows_taken")),
        "crashes": int(server.process.poll() is not None)
        + int(server.count('hotloop_errors_total{source="policy"}')),
    }


def behave(server: Server, request: bytes, seconds: float) -> None:
    """A robot that asks as fast as it is answered."""
    with opened(server.port, b"Authorization: Api-Key secret\r\n") as client:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            client.sendall(frame(request))
            client.recv(1 << 16)


def killed(server: Server, count: int) -> None:
    script = [sys.executable, str(HERE / "killed_clients.py"), server.address, str(count), "0.1"]
    subprocess.run(script, check=True)


def fuzzed(server: Server, request: bytes, count: int) -> None:
    rng, kinds = random.Random(0), list(FUZZED)
    for index in range(count):
        fuzz(server.port, request, kinds[index % len(kinds)], rng)


def faults(server: Server, count: int, seconds: float) -> dict[str, Callable[[bytes], object]]:
    """What goes on beside the robot, by name; the first two are what the others compare with."""
    rng, large = random.Random(1), bytes(17 << 20)

    def oversized(request: bytes) -> None:
        for _ in range(max(count // 20, 1)):
            with suppress(OSError), opened(server.port) as client:
                client.sendall(frame(large))
                client.recv(100)

    def wrong_token(request: bytes) -> None:
        for _ in range(count):
            with suppress(ConnectionRefusedError):
                opened(server.port, b"Authorization: Api-Key wrong\r\n").close()

    def slow_readers(request: bytes) -> None:
        readers = [
            threading.Thread(target=read_nothing, args=[server.port, request, 60.0])
            for _ in range(4)
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()

    return {
        "nobody": lambda request: time.sleep(seconds),
        "a robot that behaves": lambda request: behave(server, request, seconds),
        f"{count} clients killed": lambda request: killed(server, count),
        f"{100 * count} fuzzed frames": lambda request: fuzzed(server, request, 100 * count),
        f"{count} connections broken off at any byte": lambda request: [
            break_off(server.port, request, rng) for _ in range(count)
        ],
        "4 readers of nothing": slow_readers,
        f"{max(count // 20, 1)} frames of 17 MiB": oversized,
        f"{count} wrong tokens": wrong_token,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--robots", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3, help="of all robots in turns")
    parser.add_argument("--count", type=int, default=100, help="of clients that are killed")
    args = parser.parse_args()
    results = Results(args.output)
    python = os.environ["HOTLOOP_OPENPI"]
    for policy, (checkpoint, overrides) in POLICIES.items():
        with served(checkpoint, *overrides) as server:
            for turn in range(args.rounds):
                for robots in args.robots:
                    key = {"part": "round trip", "policy": policy, "robots": robots, "round": turn}
                    if not results.has(key):
                        results.add(key, round_trips(server, python, robots, args.seconds))
    with served("pusht-sdp", "sampling.calls_per_step=1") as server:
        for name, disturb in faults(server, args.count, args.seconds).items():
            key = {"part": "faults", "beside": name}
            if "tokens" not in name and not results.has(key):
                results.add(key, robot_beside(server, disturb, args.seconds))
    with served("pusht-sdp", "sampling.calls_per_step=1", token="secret") as server:
        for name, disturb in faults(server, args.count, args.seconds).items():
            key = {"part": "faults", "beside": name}
            if "tokens" in name and not results.has(key):
                results.add(key, robot_beside(server, disturb, args.seconds))


if __name__ == "__main__":
    main()
