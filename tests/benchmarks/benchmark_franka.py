"""Our command stream against an independent judge: franka-sim with the FCI's limits enforced.

    FR3_MJCF=fr3.xml python tests/benchmarks/benchmark_franka.py --server SERVER --runs 20

SERVER is ``run-franka-sim-server`` of an environment of its own (it pins numpy and MuJoCo). The
client is Franka's official `pylibfranka`, at 1 kHz, paced by the robot's packets. The same noisy
waypoints, ten a second, go out twice: through our controller, and linearly interpolated as it is
customary. A reflex of the robot ends a run. Writes results/franka.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hotloop.decoding.plumbing.files import write_text
from hotloop.real_robot.core.controller import Controller, ControllerConfig
from hotloop.real_robot.core.events import Mailbox, Request, RobotState
from hotloop.real_robot.core.limits import Limits
from hotloop.real_robot.core.trajectory import Chunk
from hotloop.real_robot.runtime.realtime import request_realtime
from hotloop.train.measure.provenance import measurement_header

RESULTS = Path(__file__).parent / "results" / "franka.json"
DT, PERIOD, HORIZON = 0.001, 0.1, 10
LIMITS = Limits(
    (-2.3, -1.4, -2.4, -2.8, -2.5, 0.8, -2.6),
    (2.3, 1.4, 2.4, -0.4, 2.5, 4.2, 2.6),
    (0.8,) * 7,
    (3.0,) * 7,
    (1500.0,) * 7,
)
Stream = Callable[[float, int], np.ndarray]


def waypoints(seed: int, start: np.ndarray, count: int) -> np.ndarray:
    """A slow wave with the noise of a policy, shape (n, 7); the first one is the start."""
    time_ = PERIOD * np.arange(count)[:, None]
    wave = 0.15 * (1 - np.cos(0.8 * time_)) * np.array([1, 0.5, -1, 0.5, 1, -0.5, 1])
    noise = np.random.default_rng(seed).normal(0, 0.01, (count, 7))
    noise[0] = 0
    return start + wave + noise


def ours(points: np.ndarray) -> Stream:
    """Chunks of the next second, every 0.1 s, through the controller."""
    controller = Controller(ControllerConfig(LIMITS, DT))
    sent = [-1]
    position = [points[0]]

    def stream(now: float, cycles: int) -> np.ndarray:
        for behind in reversed(range(cycles)):
            # The robot goes on by itself while packets are lost, and so do we.
            instant = 1.0 + now - behind * DT
            index = int((instant - 1.0) / PERIOD + 1e-9)
            mailbox = Mailbox()
            if sent[0] < 0:
                mailbox, sent[0] = Mailbox(request=Request.ARM), 0
            elif index + 1 > sent[0]:
                sent[0] = index + 1
                times = 1.0 + PERIOD * np.arange(index + 1, index + 1 + HORIZON)
                mailbox = Mailbox(Chunk(sent[0], instant, times, points[index + 1 :][:HORIZON]))
            state = RobotState(instant, position[0], np.zeros(7), "", np.zeros(0))
            command = controller.step(instant, state, mailbox).command
            assert command is not None
            position[0] = command.position
        return position[0]

    return stream


def linear(points: np.ndarray) -> Stream:
    """Straight lines between the waypoints."""
    times = PERIOD * np.arange(len(points))

    def stream(now: float, cycles: int) -> np.ndarray:
        return np.array([np.interp(now, times, column) for column in points.T])

    return stream


def run(kind: str, seed: int, seconds: float) -> dict[str, Any]:
    """One motion; returns how far it came and what ended it."""
    import pylibfranka

    # The first steps load libraries and fill caches: before the robot waits for answers.
    warm = ours(waypoints(seed, (LIMITS.arrays.low + LIMITS.arrays.high) / 2, 40))
    for cycle in range(300):
        warm(cycle * DT, 1)
    robot = pylibfranka.Robot("127.0.0.1", pylibfranka.RealtimeConfig.kIgnore)
    control = robot.start_joint_position_control(pylibfranka.ControllerMode.JointImpedance)
    request_realtime()
    state, _ = control.readOnce()
    start = np.array(state.q_d)
    points = waypoints(seed, start, int(seconds / PERIOD) + HORIZON + 2)
    stream = {"ours": ours, "linear": linear}[kind](points)
    now, lost, reflex = 0.0, 0, ""
    try:
        while now < seconds:
            command = pylibfranka.JointPositions(stream(now, 1).tolist())
            control.writeOnce(command)
            _, passed = control.readOnce()
            cycles = max(round(passed.to_sec() / DT), 1)
            for _ in range(cycles - 1):
                now += DT
                stream(now, 1)
            lost += cycles - 1
            now += DT
    except (pylibfranka.FrankaException, pylibfranka.ControlException) as error:
        reflex = str(error).split("\n")[0][:200]
    return {"kind": kind, "seed": seed, "seconds": now, "lost": lost, "reflex": reflex}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", type=Path)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=2, metavar=("KIND", "SEED"))
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run(args.one[0], int(args.one[1]), args.seconds)))
        return
    result: dict[str, Any] = measurement_header(" ".join(sys.argv)) | {"runs": []}
    for seed in range(args.runs):
        for kind in ("ours", "linear"):
            server = subprocess.Popen(
                [args.server, "--no-gripper", "--enforce-comm-constraints",
                 "--enforce-motion-limits"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            time.sleep(6)
            try:
                command = [sys.executable, __file__, "--one", kind, str(seed)]
                done = subprocess.run(
                    [*command, "--seconds", str(args.seconds)], capture_output=True, text=True
                )
                last = done.stdout.strip().splitlines()[-1:] or ["{}"]
                row = json.loads(last[0]) or {"kind": kind, "seed": seed, "failed": done.stderr}
            finally:
                server.kill()
                server.wait()
            result["runs"].append(row | {"load": os.getloadavg()[0]})
            print(row, flush=True)
            write_text(args.output, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
