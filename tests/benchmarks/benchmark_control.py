"""Timing and safety of the control loop on this machine; writes results/control.json.

    python tests/benchmarks/benchmark_control.py --seconds 60

Five parts: cyclictest and the loop at 1 kHz in turns, with torch on the other core; what a cycle
computes, part by part; a Push-T checkpoint that drives emulated Dynamixel servos at 500 Hz through
the maker's SDK, and its log recomputed, whose commands have to come out bit for bit; a 1 kHz loop
in its own process while torch computes in another one; the same loop as a thread of the process
that computes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from punctuality import rounds, wall_clock_violations

from hotloop.decoding.plumbing.files import write_text
from hotloop.real_robot.config import ControlConfig, RobotConfig
from hotloop.real_robot.core.events import Mode
from hotloop.real_robot.drivers import make_driver
from hotloop.real_robot.logs.reader import read_log
from hotloop.real_robot.logs.recompute import recompute
from hotloop.real_robot.runtime.channels import Channels, Sizes
from hotloop.real_robot.runtime.loop import ControlLoop
from hotloop.real_robot.runtime.realtime import request_realtime
from hotloop.real_robot.runtime.supervisor import RunConfig, counts, supervise
from hotloop.train.config.compose import compose
from hotloop.train.measure.provenance import measurement_header

RESULTS = Path(__file__).parent / "results" / "control.json"
REACH = "hotloop.real_robot.policies.reach:make_reach_policy"
HOTLOOP = [sys.executable, "-m", "hotloop.train.cli"]
# A policy of many small operations: worse for a loop in the same process than one large product.
BURN = """
import torch
torch.set_num_threads(1)
layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).eval()
x = torch.randn(1, 16, 64)
with torch.inference_mode():
    while True:
        layer(x)
"""


def end_to_end(seconds: float, realtime: bool) -> dict[str, Any]:
    """Checkpoint, control loop, dynamixel-sdk, pseudo-terminal, MuJoCo arm, at 500 Hz."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["servo-bus", "--model", "table", "--position", "0.13", "2.17", "--seed", "1"]
        arguments += ["--tracker", "5005", "--baud", "4000000"]
        arguments += ["--realtime"] if realtime else []
        emulator = subprocess.Popen(
            [*HOTLOOP, "emulate", *arguments], stdout=subprocess.PIPE, text=True
        )
        assert emulator.stdout is not None
        port = next(line for line in emulator.stdout if line.startswith("port: ")).split()[1]
        try:
            subprocess.run(
                [*HOTLOOP, "control", "robot=dynamixel-table", f"robot.options.port={port}",
                 f"duration={seconds}", "seed=1", f"output_dir={folder}",
                 f"robot.realtime={str(realtime).lower()}"],
                check=False,  # a run that was stopped is a result too
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
        finally:
            emulator.terminate()
            emulator.wait()
        log = read_log(Path(folder) / "log.mcap")
        summary = json.loads((Path(folder) / "summary.json").read_text())
        # Its port and its folder are over; this file's own command is how to measure again.
        del summary["command"]
        return summary | {
            "recomputed": asdict(recompute(log)),
            "wall_clock_violations": wall_clock_violations(log),
        }


def thousand_hertz() -> RobotConfig:
    """The six-joint arm without a device, at 1 kHz."""
    config: ControlConfig = compose("control", ["robot=mujoco-arm"], ControlConfig)
    control = replace(config.robot.control, dt=0.001, tracking_error=())
    return RobotConfig("dry", "dry-run", control)


def own_process(seconds: float, realtime: bool) -> dict[str, Any]:
    """The loop in a process of its own, torch in another one."""
    with torch_beside():
        robot = replace(thousand_hertz(), realtime=realtime)
        return supervise(robot, RunConfig(REACH, duration=seconds), lambda line: None)


@contextmanager
def torch_beside() -> Generator[None, None, None]:
    """Torch computes in another process, on one core."""
    burner = subprocess.Popen([sys.executable, "-c", BURN])
    os.sched_setaffinity(burner.pid, {0})
    try:
        yield
    finally:
        burner.kill()
        burner.wait()


def split_process(seconds: float) -> dict[str, Any]:
    """What a cycle computes, in a process with real-time scheduling of its own."""
    code = (
        "import json, sys; from benchmark_control import thousand_hertz; "
        "from punctuality import split; "
        "from hotloop.real_robot.runtime.realtime import request_realtime; request_realtime(); "
        "print(json.dumps(split(thousand_hertz(), float(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", code, str(seconds)]
    folder = Path(__file__).parent
    found = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout.splitlines()[0])


def one_process(seconds: float) -> dict[str, Any]:
    """The loop as a thread beside torch: what the split into processes is for."""
    robot = thousand_hertz()
    channels = Channels(Sizes(robot.control.limits.num_joints, 0, robot.control.dt))
    loop = ControlLoop(robot, make_driver(robot), channels)

    def control() -> None:
        loop.realtime = request_realtime()
        loop.run()

    thread = threading.Thread(target=control)
    thread.start()
    threading.Timer(seconds, loop.end).start()
    import torch

    torch.set_num_threads(1)
    layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).eval()
    x = torch.randn(1, 16, 64)
    with torch.inference_mode():
        while thread.is_alive():
            layer(x)
    status = channels.status.read()
    assert status is not None and Mode(int(status["mode"])) in (Mode.IDLE, Mode.STOP)
    return counts(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--only", choices=["punctuality"], help="leave out the other parts")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    parts = {
        "end to end, 500 Hz, SCHED_FIFO": lambda: end_to_end(args.seconds, True),
        "end to end, 500 Hz, normal scheduling": lambda: end_to_end(args.seconds, False),
        "1 kHz, own process, SCHED_FIFO": lambda: own_process(args.seconds, True),
        "1 kHz, own process, normal scheduling": lambda: own_process(args.seconds, False),
        "1 kHz, one process, SCHED_FIFO": lambda: one_process(args.seconds),
    }
    result: dict[str, Any] = measurement_header(" ".join(sys.argv))
    result |= {"seconds": args.seconds, "load_before": os.getloadavg(), "parts": {}}
    robot = thousand_hertz()
    result["split_us"] = split_process(min(args.seconds, 20.0))
    print(f"what a cycle computes, us: {result['split_us']}", flush=True)
    turn = max(args.seconds / args.rounds, 2.0)
    result["rounds"] = rounds(robot, REACH, turn, args.rounds, torch_beside)
    for one in result["rounds"]:
        print(f"cyclictest {one['cyclictest_us']}  loop {one['loop_us']} skipped {one['skipped']}")
    write_text(args.output, json.dumps(result, indent=1) + "\n")
    for name, part in ({} if args.only else parts).items():
        found = part()
        result["parts"][name] = found | {"load": os.getloadavg()}
        wake = found["wake_us"]
        print(
            f"{name:40} wake p50 {wake['p50']:5} p99 {wake['p99']:6} max {wake['max']:6} us  late "
            f"{found['late_cycles']} skipped {found['skipped_cycles']} of {found['cycles']}  "
            f"violations {found['limit_violations']}  bus failures {found['bus_failures']}  "
            f"ended by {found.get('ended_by', 'duration')}  recomputed {found.get('recomputed')}",
            flush=True,
        )
        write_text(args.output, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
