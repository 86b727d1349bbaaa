"""Control steps per second of our environments against Gymnasium's own vector loop.

    python tests/benchmarks/benchmark_environments.py OUTPUT.json [--tasks hopper maze2d-umaze]

All loops run eight environments in one process and reset them when their episode ends. With the
same random actions: `gymnasium.vector.SyncVectorEnv` of the bare environment, and our environments,
whose frames are stacked. With zeros as actions: `evaluate` itself, with executor and tally, of a
policy that plans 16 steps and executes 8, against the same vector loop. Loops take turns; numbers
are medians over the rounds.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
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

from hotloop.decoding import ActionTrajectory, Observation, ObservationSpec
from hotloop.decoding.plumbing.files import write_text
from hotloop.envs import Task, evaluate, make_task
from hotloop.train.measure.provenance import measurement_header

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


class Still:
    """Plans zeros, and knows when `evaluate` began to run episodes."""

    num_execute = 8

    def __init__(self, task: Task) -> None:
        self.action_spec = task.action_spec
        key = "observation.state"
        self.observation_spec = ObservationSpec({key: task.observation_shapes[key]}, num_steps=1)
        self.began = 0.0

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        self.began = self.began or time.process_time()

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        actions = np.zeros((len(step), 2 * self.num_execute, self.action_spec.size))
        return ActionTrajectory.clean(actions, step, observation.step, self.action_spec.dt)


def evaluation(task_name: str) -> Callable[[], tuple[int, float]]:
    """What evaluates once and returns control steps and seconds, without starting simulators."""
    task = make_task(task_name)
    envs = itertools.cycle([task.make() for _ in range(NUM_ENVS)])
    task = dataclasses.replace(task, make=lambda: next(envs))

    def run() -> tuple[int, float]:
        policy = Still(task)
        result = evaluate(policy, task, range(2 * NUM_ENVS), NUM_ENVS)
        seconds = time.process_time() - policy.began
        return sum(episode.num_steps for episode in result.episodes), seconds

    return run


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
    zeros = np.zeros((NUM_ENVS, spec.size), np.float32)
    run = evaluation(task_name)
    for _ in range(num_rounds):
        num_steps, seconds = run()
        rates.setdefault("evaluate", []).append(num_steps / seconds)
        began = time.process_time()
        for _ in range(num_steps // NUM_ENVS):
            loops["gymnasium"](zeros)
        rate = num_steps // NUM_ENVS * NUM_ENVS / (time.process_time() - began)
        rates.setdefault("gymnasium_zeros", []).append(rate)
    medians = {f"{name}_steps_per_s": round(float(np.median(rates[name]))) for name in loops}
    ratio = float(np.median(np.divide(rates["ours"], rates["gymnasium"])))
    whole = float(np.median(np.divide(rates["evaluate"], rates["gymnasium_zeros"])))
    ratios = {"ratio": round(ratio, 3), "evaluate_ratio": round(whole, 3)}
    return {"task": task_name, **medians, **ratios, "num_rounds": num_rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    default = ["hopper", "walker2d", "halfcheetah", "pointmaze-umaze", "maze2d-umaze", "door"]
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
