"""openpi's own client on a server of ours; runs in an environment without hotloop.

use_openpi.py drive ADDRESS SEED STEPS    actions of an episode on drawn states
use_openpi.py mistakes ADDRESS            what it makes of a wrong observation
use_openpi.py time ADDRESS ROBOTS SECONDS round trips [s] of so many robots side by side
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy


def frames(client: WebsocketClientPolicy, seed: int, count: int) -> list[dict]:
    """Drawn observations of what the server says it reads, under openpi's keys."""
    rng = np.random.default_rng(seed)
    shapes = {key: one["shape"] for key, one in client.get_server_metadata()["observation"].items()}
    return [
        {
            key.replace(".", "/"): rng.uniform(0, 0.8, shape).astype(np.float32)
            for key, shape in shapes.items()
        }
        for _ in range(count)
    ]


def connect(address: str) -> WebsocketClientPolicy:
    return WebsocketClientPolicy(address, api_key=os.environ.get("HOTLOOP_TOKEN"))


def drive(address: str, seed: str, steps: str) -> dict:
    client = connect(address)
    policy = ActionChunkBroker(client, action_horizon=1)
    policy.reset()
    replies = [policy.infer(frame) for frame in frames(client, int(seed), int(steps))]
    return {
        "actions": [reply["actions"].tolist() for reply in replies],
        "keys": sorted(replies[0]),
    }


def mistakes(address: str) -> dict:
    client = connect(address)
    found = []
    for _ in range(2):
        try:
            client.infer({"observation/state": np.zeros(7, np.float32)})
        except Exception as error:  # noqa: BLE001 - which one is the answer
            found.append(f"{type(error).__name__}: {error}")
    try:
        WebsocketClientPolicy(address, api_key="wrong")
    except Exception as error:  # noqa: BLE001 - which one is the answer
        found.append(f"{type(error).__name__}: {error}")
    return {"errors": found}


def time_robots(address: str, robots: str, seconds: str) -> dict:
    """Robots as threads of one process, each with a connection, asking as fast as they can."""
    clients = [connect(address) for _ in range(int(robots))]
    asked = [frames(client, index, 50) for index, client in enumerate(clients)]
    end = time.perf_counter() + 0.5 + float(seconds)

    def robot(index: int) -> list[tuple[float, float]]:
        found, step = [], 0
        while (begin := time.perf_counter()) < end:
            clients[index].infer(asked[index][step % 50])
            found.append((begin, time.perf_counter() - begin))
            step += 1
        return found

    with ThreadPoolExecutor(len(clients)) as pool:
        timed = list(pool.map(robot, range(len(clients))))
    # What began in the first half second is the warm-up.
    kept = [took for one in timed for begin, took in one if begin > end - float(seconds)]
    return {"round_trips_s": kept}


if __name__ == "__main__":
    command = {"drive": drive, "mistakes": mistakes, "time": time_robots}[sys.argv[1]]
    print(json.dumps(command(*sys.argv[2:])))
