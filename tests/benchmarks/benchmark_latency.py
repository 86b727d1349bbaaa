"""Policies whose plans come late, on tasks that do not wait; writes latency_strategies.json, .png.

    python tests/benchmarks/benchmark_latency.py --tasks pusht pointmaze-umaze hopper

Four ways to live with it: hold the last action during inference, plan ahead while moving, real-time
chunking, and streaming diffusion. Latency is in control steps, all in virtual time. Jerk is the
root mean square of the third difference of the actions, per episode, in their unit per s3. Rows of
the output that were made with the same checkpoint and as many episodes are kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from synchronous import SynchronousPolicy

from hotloop.decoding import Executor, Policy
from hotloop.decoding.plumbing.files import write_text
from hotloop.envs.registry import make_task
from hotloop.envs.statistics import bootstrap_interval
from hotloop.policies.checkpoint import WEIGHTS_FILE, find_checkpoint, load_checkpoint
from hotloop.train.measure.provenance import measurement_header

RESULTS = Path(__file__).parent / "results"
DP_CALLS, NUM_EXECUTE = 10, 8
Make = Callable[[str, int], Executor]


def diffusion(name: str, guidance: str = "") -> Policy:
    """A Diffusion Policy checkpoint, with real-time chunking if there is guidance."""
    choices = {"calls_per_step": DP_CALLS, "num_execute": NUM_EXECUTE}
    return load_checkpoint(name).policy({**choices, "prefix_guidance": guidance})


def default(name: str) -> Policy:
    """A checkpoint as it is meant to be used."""
    return load_checkpoint(name).policy({})


DIFFUSION: dict[str, Make] = {
    "synchronous DP": lambda name, steps: Executor(SynchronousPolicy(diffusion(name), steps)),
    "asynchronous DP": lambda name, steps: Executor(diffusion(name), latency=steps),
    "RTC DP, identity": lambda name, steps: Executor(diffusion(name, "identity"), latency=steps),
    "RTC DP, vjp": lambda name, steps: Executor(diffusion(name, "vjp"), latency=steps),
}
STREAMING: dict[str, Make] = {
    "synchronous SDP": lambda name, steps: Executor(SynchronousPolicy(default(name), steps)),
    "streaming SDP": lambda name, steps: Executor(default(name), latency=steps),
}
DELAYED: dict[str, Make] = {
    "streaming SDP, trained for it": lambda name, steps: Executor(default(name), latency=steps),
}
PLANNER: dict[str, Make] = {
    "synchronous planner": lambda name, steps: Executor(SynchronousPolicy(default(name), steps)),
    "asynchronous planner": lambda name, steps: Executor(default(name), latency=steps),
}


class Case(NamedTuple):
    """What is run on one task.

    Attributes:
        checkpoints: Name and strategies of each checkpoint.
        latencies: Control steps.
    """

    checkpoints: dict[str, dict[str, Make]]
    latencies: tuple[int, ...]


# A control step lasts 100 ms in Push-T, 10 ms in PointMaze and 8 ms in hopper.
CASES = {
    "pusht": Case(
        {"pusht-dp": DIFFUSION, "pusht-sdp": STREAMING, "pusht-sdp-latency": DELAYED},
        (0, 1, 2, 3),
    ),
    "pointmaze-umaze": Case(
        {"pointmaze-dp": DIFFUSION, "pointmaze-sdp": STREAMING}, (0, 2, 4, 6, 8)
    ),
    "hopper": Case({"hopper-trajectory-diffuser": PLANNER}, (0, 1, 2, 3)),
}


def run(task_name: str, executor: Executor, seeds: list[int]) -> dict[str, list[float]]:
    """Score, jerk and number of steps of one episode per seed, side by side."""
    task = make_task(task_name)
    envs = [task.make() for _ in seeds]
    frames = [env.reset(seed) for env, seed in zip(envs, seeds, strict=True)]
    executor.reset(seeds)
    active, actions = np.arange(len(seeds)), [[] for _ in seeds]
    while active.size:
        frame = {key: np.stack([frames[i][key] for i in active]) for key in frames[0]}
        chosen = executor.act(frame, active)
        going = []
        for index, action in zip(active.tolist(), chosen, strict=True):
            actions[index].append(action)
            frames[index], _, done = envs[index].step(action)
            if not done:
                going.append(index)
        active = np.array(going, np.int64)
    scores = [float(env.score) for env in envs]
    for env in envs:
        env.close()
    dt = task.action_spec.dt
    thirds = [np.diff(np.stack(row), 3, axis=0) / dt**3 for row in actions if len(row) > 3]
    jerks = [float(np.sqrt((third**2).mean())) for third in thirds]
    return {"scores": scores, "jerks": jerks, "num_steps": [len(row) for row in actions]}


def wanted(tasks: list[str], num_episodes: int) -> Iterator[tuple[dict[str, Any], Make]]:
    """What identifies each row, and what makes its executor."""
    for task in tasks:
        for name, strategies in CASES[task].checkpoints.items():
            weights = (find_checkpoint(name) / WEIGHTS_FILE).read_bytes()
            digest = hashlib.sha256(weights).hexdigest()[:16]
            for strategy, make in strategies.items():
                for steps in CASES[task].latencies:
                    key = {"task": task, "checkpoint": name, "weights": digest}
                    key |= {"strategy": strategy, "latency_steps": steps, "n": num_episodes}
                    yield key, make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--output", type=Path, default=RESULTS / "latency_strategies.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds = list(range(100_000, 100_000 + args.episodes))
    result: dict[str, Any] = measurement_header(" ".join(sys.argv))
    result |= {"seeds": [seeds[0], seeds[-1]], "load": os.getloadavg(), "rows": []}
    if args.output.exists():
        old = json.loads(args.output.read_text())["rows"]
        result["rows"] = [row for row in old if row.get("task") in CASES]
    for key, make in wanted(args.tasks, args.episodes):
        place = {name: key[name] for name in ("task", "strategy", "latency_steps")}
        same = [row for row in result["rows"] if place.items() <= row.items()]
        if any(key.items() <= row.items() for row in same):
            continue
        outcome = run(key["task"], make(key["checkpoint"], key["latency_steps"]), seeds)
        latency_s = key["latency_steps"] * make_task(key["task"]).action_spec.dt
        score, jerk = float(np.mean(outcome["scores"])), float(np.mean(outcome["jerks"]))
        low, high = bootstrap_interval(outcome["scores"])
        row = {**key, "latency_s": latency_s, "score": score, "ci95": [low, high], "jerk": jerk}
        rows = [other for other in result["rows"] if other not in same]
        result["rows"] = [*rows, {**row, "commit": result["commit"], **outcome}]
        write_text(args.output, json.dumps(result, indent=1) + "\n")
        print(
            f"{key['task']:16} {key['strategy']:20} {1e3 * latency_s:4.0f} ms  score {score:.3f} "
            f"[{low:.3f}, {high:.3f}]  jerk {jerk:.3g}  {np.mean(outcome['num_steps']):.0f} steps",
            flush=True,
        )
    plot(result["rows"], args.output.with_suffix(".png"))


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Score and jerk against latency, one line of plots per task."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    size = (10, 3.5 * len(tasks))
    figure, grid = pyplot.subplots(len(tasks), 2, figsize=size, layout="constrained", squeeze=False)
    for task, axes in zip(tasks, grid, strict=True):
        for name in dict.fromkeys(row["strategy"] for row in rows if row["task"] == task):
            mine = [row for row in rows if row["task"] == task and row["strategy"] == name]
            mine.sort(key=lambda row: row["latency_steps"])
            latency = [1e3 * row["latency_s"] for row in mine]
            for axis, quantity in zip(axes, ("score", "jerk"), strict=True):
                axis.plot(latency, [row[quantity] for row in mine], marker="o", label=name)
        for axis, label in zip(axes, ("score", "jerk of the actions [1/s³]"), strict=True):
            axis.set(title=task, xlabel="latency [ms]", ylabel=label)
        axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
