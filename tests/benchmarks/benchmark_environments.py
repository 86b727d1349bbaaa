"""Control steps per second of our environments against Gymnasium's own vector loop.

    python tests/benchmarks/benchmark_environments.py OUTPUT.json [--tasks hopper maze2d-umaze]

Both loops run eight environments in one process with the same random actions and reset them when
their episode ends: `gymnasium.vector.SyncVectorEnv` of the bare environment, and ours, whose frames
are stacked as `evaluate` does. They take turns; numbers are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from hotloop.envs import make_task
from hotloop.train.files import write_text
from hotloop.train.provenance import measurement_header

NUM_ENVS = 8
Step = Callable[[np.ndarray], object]


def bare(task_name: str) -> Step:
    """Gymnasium's loop over the environment that the task is made of."""
    env_id = make_task(task_name).simulator.split()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make = lambda: gymnasium.make(env_id, disable_env_checker=True)  # noqa: E731
        envs = gymnasium.vector.SyncVectorEnv([make] * NUM_ENVS)
    envs.reset(seed=0)
    return envs.step


def ours(task_name: str) -> Step:
    """The tasks' environments side by side, as `evaluate` runs them."""
    envs = [make_task(task_name).make() for _ in range(NUM_ENVS)]
    for seed, env in enumerate(envs):
        env.reset(seed)

    def step(actions: np.ndarray) -> dict[str, np.ndarray]:
        frames = []
        for env, action in zip(envs, actions, strict=True):
            frame, _, done = env.step(action)
            frames.append(env.reset(0) if done else frame)
        return {key: np.stack([frame[key] for frame in frames]) for key in frames[0]}

    return step


def measure(task_name: str, num_rounds: int, steps_per_round: int) -> dict[str, Any]:
    spec = make_task(task_name).action_spec
    rng = np.random.default_rng(0)
    shape = (steps_per_round, NUM_ENVS, spec.size)
    actions = rng.uniform(spec.low, spec.high, shape).astype(np.float32)
    loops = {"ours": ours(task_name), "gymnasium": bare(task_name)}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(num_rounds):
        for name, step in loops.items():
            began = time.process_time()
            for row in actions:
                step(row)
            rates[name].append(steps_per_round * NUM_ENVS / (time.process_time() - began))
    medians = {f"{name}_steps_per_s": round(float(np.median(rates[name]))) for name in loops}
    ratio = float(np.median(np.divide(rates["ours"], rates["gymnasium"])))
    return {"task": task_name, **medians, "ratio": round(ratio, 3), "num_rounds": num_rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    default = ["hopper", "walker2d", "halfcheetah", "maze2d-umaze", "antmaze-umaze", "door"]
    parser.add_argument("--tasks", nargs="+", default=default)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    rows = [measure(task, args.rounds, args.steps) for task in args.tasks]
    header = measurement_header(shlex.join(["python", *sys.argv]))
    clock = "process CPU time"
    result = {**header, "clock": clock, "num_envs": NUM_ENVS, "rows": rows}
    write_text(args.output, json.dumps(result, indent=2) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
