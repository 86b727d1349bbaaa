"""Record, train, control: an operator is recorded, and a student does its work.

    python tests/benchmarks/benchmark_whole_way.py RUNS OUTPUT.json [--ways table pick]

`table`: the checkpoint ``pusht-sdp`` pushes Push-T's block over a table with two emulated Dynamixel
servos, through the maker's SDK, with emulated tracker and a rendered camera. `pick`: a script picks
up a cube with a simulated arm and puts it on a mark. Each episode is one ``hotloop control
record=…``, which appends to the dataset; then ``hotloop train policy=sdp`` and ``hotloop control``
with what came out, on scenes that were not recorded. What RUNS holds already is not done again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from result_rows import Results

from hotloop.envs import wilson_interval
from hotloop.envs.pusht import CENTRE_OF_GRAVITY
from hotloop.real_robot.logs.reader import ControlLog, read_log
from hotloop.real_robot.policies.pick_task import pick_score, random_cube
from hotloop.train.commands.table import PIXELS
from hotloop.train.commands.table_policy import table_score
from hotloop.train.data.formats.registry import read_episodes

HOTLOOP = [sys.executable, "-m", "hotloop.train.cli"]
START = [0.13, 2.17]  # of the table's arm [rad]
FIRST_TRIAL = 500_000  # seed of the student's first scene; recordings have those from 0
SUCCESS = 0.95  # of the score
# A run that does not start, or an episode that the machine spoils, is made again this often.
ATTEMPTS = 3


def near_block(seed: int) -> list[float]:
    """A start of the block within 4 cm and 29 degrees of its mark: x, y [m], angle [rad]."""
    draw = np.random.default_rng(seed)
    cos = sin = np.sqrt(0.5)
    centre = 256 + np.array([[cos, -sin], [sin, cos]]) @ CENTRE_OF_GRAVITY
    place = (centre + draw.uniform(-40, 40, 2)) / PIXELS
    return [*place.tolist(), float(np.pi / 4 + draw.uniform(-0.5, 0.5))]


def free_port() -> int:
    """A UDP port on this machine that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def emulated_table(seed: int) -> Generator[list[str], None, None]:
    """A context with the table's servos, and what `hotloop control` is told of them."""
    flags = ["--model", "table", "--position", *map(str, START), "--realtime"]
    flags += ["--scene", *map(str, near_block(seed))]
    robot = ["robot=dynamixel-table", f"robot.options.tracker={free_port()}"]
    emulator = subprocess.Popen(
        [*HOTLOOP, "emulate", "servo-bus", *robot, *flags],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert emulator.stdout is not None
        port = next(line for line in emulator.stdout if line.startswith("port: ")).split()[1]
        yield [*robot, f"robot.options.port={port}"]
    finally:
        emulator.terminate()
        emulator.wait()


@contextmanager
def simulated_arm(seed: int) -> Generator[list[str], None, None]:
    """A context with the arm and a cube before it, and what `hotloop control` is told of them."""
    yield [
        "robot=mujoco-arm",
        "robot.options.model=pick",
        f"robot.options.scene={random_cube(seed)}",
        "robot.cameras.front.options.model=pick",
    ]


@dataclass(frozen=True)
class Way:
    """One robot, its operator and its task.

    Attributes:
        robot: Context of a scene by seed; what `hotloop control` is told of it.
        operator: What moves the robot while it is recorded.
        student: How the student is run.
        camera: What is told of the camera that is recorded.
        score: How good a run was.
        task: In words.
        duration: Of an episode [s].
        training: Settings of `hotloop train`, besides policy and data.
    """

    robot: Callable[[int], Any]
    operator: tuple[str, ...]
    student: tuple[str, ...]
    camera: tuple[str, ...]
    score: Callable[[ControlLog], float]
    task: str
    duration: float
    training: tuple[str, ...]


TABLE_CAMERA = (
    "robot.cameras.top.driver=mujoco",
    "robot.cameras.top.size=[96,96]",
    "robot.cameras.top.options.model=table",
)
WAYS = {
    "table": Way(
        robot=emulated_table,
        operator=("policy=table", "checkpoint=pusht-sdp"),
        student=("policy=joints",),
        camera=TABLE_CAMERA,
        score=table_score,
        task="push the T onto its mark",
        duration=12.0,
        # Harder on noise than Push-T's own recipe, as the recordings are few.
        training=("steps=6000", "batch_size=128", "policy.observation_noise=0.04"),
    ),
    "pick": Way(
        robot=simulated_arm,
        operator=("policy=pick",),
        student=(),
        camera=(),
        score=pick_score,
        task="put the cube onto the mark",
        duration=7.5,
        training=("steps=3000", "batch_size=64"),
    ),
}


def control(way: Way, seed: int, folder: Path, arguments: list[str]) -> dict[str, Any]:
    """One run of `hotloop control`, done before or now: its summary, with the score."""
    summary = folder / "summary.json"
    for _ in range(ATTEMPTS):
        if summary.exists():
            break
        shutil.rmtree(folder, ignore_errors=True)
        with way.robot(seed) as robot:
            command = ["control", *robot, f"duration={way.duration}", f"seed={seed}"]
            subprocess.run(
                [*HOTLOOP, *command, *arguments, f"output_dir={folder}", "robot.realtime=true"],
                check=False,  # a run that was stopped is a result too
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
    if not summary.exists():
        sys.exit(f"{folder}: the robot did not start {ATTEMPTS} times, see above")
    found = json.loads(summary.read_text())
    return found | {"score": way.score(read_log(folder / "log.mcap"))}


def record(way: Way, folder: Path, episodes: int) -> list[dict[str, Any]]:
    """Summaries of the operator's runs, each of which was an episode.

    An episode that the machine spoilt is not in the dataset: it is recorded again.
    """
    kept: list[dict[str, Any]] = []
    arguments = [*way.operator, *way.camera, f"record={folder / 'data'}", f"task={way.task}"]
    for seed in range(ATTEMPTS * episodes):
        if len(kept) == episodes:
            break
        summary = control(way, seed, folder / "operator" / str(seed), arguments)
        if summary["ended_by"] == "duration":
            kept.append(summary)
    return kept


def train(folder: Path, settings: list[str]) -> float:
    """Train the student, or go on with it; how long it took [s]."""
    student, began = folder / "student", perf_counter()
    subprocess.run(
        [*HOTLOOP, "train", "policy=sdp", "policy.cameras=[]", "task=recorded",
         f"task.dataset={folder / 'data'}",
         f"output_dir={student}", f"resume={str(student.exists()).lower()}", *settings],
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return perf_counter() - began


def figures(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What is told of some runs."""
    scores = np.array([run["score"] for run in runs])
    solved = scores >= SUCCESS
    interval = wilson_interval(int(solved.sum()), len(runs))
    return {
        "runs": len(runs),
        "success": float(solved.mean()),
        "ci95": [interval.low, interval.high],
        "score": float(scores.mean()),
        "scores": scores.round(3).tolist(),
        "cycles": sum(run["cycles"] for run in runs),
        "skipped_cycles": sum(run["skipped_cycles"] for run in runs),
        "limit_violations": sum(run["limit_violations"] for run in runs),
        "bus_failures": sum(run["bus_failures"] for run in runs),
        "ended_by": sorted({run["ended_by"] for run in runs}),
    }


def go(name: str, folder: Path, args: argparse.Namespace, results: Results) -> None:
    """One whole way."""
    way, key = WAYS[name], {"way": name}
    settings = [*way.training, *([f"steps={args.steps}"] if args.steps else [])]
    if not results.has(key):
        results.add(key, {"task": way.task, "duration": way.duration, "training": settings})
    operator = record(way, folder, args.episodes)
    data = read_episodes(folder / "data")
    results.update(key, {"episodes": data.num_episodes, "frames": data.num_steps})
    results.update(key, {"operator": figures(operator)})
    row = results.find(key)
    if row is not None and "training_seconds" not in row:
        results.update(key, {"training_seconds": round(train(folder, settings), 1)})
    student = [*way.student, f"checkpoint={folder / 'student'}"]
    trials = [
        control(way, FIRST_TRIAL + trial, folder / "trials" / str(trial), student)
        for trial in range(args.trials)
    ]
    found = {one: figures(runs) for one, runs in (("operator", operator), ("student", trials))}
    share = {
        measure: found["student"][measure] / max(found["operator"][measure], 1e-9)
        for measure in ("success", "score")
    }
    results.update(key, {"student": found["student"], "student_over_operator": share})


def main() -> None:
    """Go the ways that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--steps", type=int, help="of training; by default what the way needs")
    args = parser.parse_args()
    results = Results(args.output)
    for name in args.ways:
        go(name, args.runs.absolute() / name, args, results)


if __name__ == "__main__":
    main()
