"""Decoders of a vision-language policy on the same episodes, in turns, and what plans cost."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from result_rows import Results
from vla_decoders import DECODINGS
from vla_success import CountedPolicy, evaluation_of, rate

from hotloop.decoding import ActionTrajectory, Observation
from hotloop.envs.registry import make_task
from hotloop.envs.rollout import evaluate
from hotloop.envs.statistics import compare
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.programs.engines.memory import Memory
from hotloop.policies.vla import VlaPolicy
from hotloop.policies.vla.engine_passes import EnginePrograms

EPISODES_IN_TURN = 6  # one of every instruction


class TimedPolicy(CountedPolicy):
    """A policy of tokens that remembers how much processor time each plan took.

    On a machine that others use, processor time is what a plan costs, a clock says who else ran.

    Args:
        policy: What decodes.
        engine: Told how long the engine ran.
    """

    def __init__(self, policy: VlaPolicy, engine: EngineClock) -> None:
        super().__init__(policy)
        self._engine = engine
        self.cpu_ms: list[float] = []
        self.engine_ms: list[float] = []

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        before, began = self._engine.seconds, time.process_time()
        trajectory = super().plan(observation, step)
        self.cpu_ms.append(1e3 * (time.process_time() - began))
        self.engine_ms.append(1e3 * (self._engine.seconds - before))
        return trajectory


class EngineClock:
    """Processor time that an engine's programs ran for; it times all that are made afterwards."""

    def __init__(self) -> None:
        self.seconds = 0.0
        plain, timed = EnginePrograms.memory, self._timed

        def memory(self: EnginePrograms, name: str, rows: int) -> Memory:
            found = plain(self, name, rows)
            return found._replace(run=timed(found.run))

        EnginePrograms.memory = memory

    def _timed(self, inner: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            began = time.process_time()
            found = inner()
            self.seconds += time.process_time() - began
            return found

        return run


def run_paired(results: Results, args: argparse.Namespace) -> None:
    """One row per decoder, which grows turn by turn."""
    (name,) = args.checkpoints
    checkpoint, engine = load_checkpoint(name), args.engines[0]
    task = str(checkpoint.provenance["task"])
    clock = EngineClock()
    # One policy whose decoder is exchanged, so that all of them run what was prepared once.
    policy = checkpoint.policy({"method": "greedy", "max_calls": 0, "max_move": -1.0}, engine)
    keys = {
        label: {"part": "paired", "checkpoint": Path(name).name, "decoding": label, "task": task,
                "engine": engine, "first_seed": args.first_seed}
        for label in args.decodings
    }  # fmt: skip
    for first in range(0, args.episodes, EPISODES_IN_TURN):
        seeds = range(args.first_seed + first, args.first_seed + first + EPISODES_IN_TURN)
        for label, key in keys.items():
            row = results.find(key) or {"successes": [], "plans": []}
            if len(row["successes"]) > first:
                continue
            policy.decoding = checkpoint.choices(DECODINGS[label])
            policy.num_execute = policy.decoding.num_execute
            timed = TimedPolicy(policy, clock)
            evaluation = evaluate(timed, make_task(task), seeds, 1)
            successes = row["successes"] + [int(one.success) for one in evaluation.episodes]
            plans = row.get("plans", []) + list(
                zip(timed.num_calls, timed.cpu_ms, timed.engine_ms, strict=True)
            )
            values = {"num_execute": policy.num_execute, **summary(successes, plans)}
            if (greedy := results.find(keys["greedy"])) and label != "greedy":
                values |= comparison(task, args.first_seed, greedy, values)
            if results.has(key):
                results.update(key, values)
            else:
                results.add(key, values)
    for row in results.rows:
        row.pop("plans", None)
    results.write()


def summary(successes: list[int], plans: list[Any]) -> dict[str, Any]:
    """Success and times, and what they were computed from."""
    forwards, cpu_ms, engine_ms = np.array(plans).T
    # The first plans prepare what the decoder runs.
    warm = slice(3, None)
    return {
        "n": len(successes),
        **rate(successes),
        "mean_forwards": float(forwards.mean()),
        "num_chunks": len(plans),
        "median_cpu_ms": float(np.median(cpu_ms[warm])),
        "p99_cpu_ms": float(np.quantile(cpu_ms[warm], 0.99)),
        "median_engine_ms": float(np.median(engine_ms[warm])),
        "python_share": float(np.median(1 - engine_ms[warm] / cpu_ms[warm])),
        "successes": successes,
        "plans": [[int(one), round(two, 3), round(three, 3)] for one, two, three in plans],
    }


def comparison(
    task: str, first_seed: int, greedy: dict[str, Any], values: dict[str, Any]
) -> dict[str, Any]:
    """Paired difference in success to greedy decoding, and how much faster per executed action."""
    num = min(greedy["n"], values["n"])
    seeds = range(first_seed, first_seed + num)
    pair = [evaluation_of(task, seeds, one["successes"][:num]) for one in (greedy, values)]
    return {
        "difference_to_greedy": asdict(compare(*pair)),
        "faster_than_greedy": _per_action(greedy) / _per_action(values),
    }


def _per_action(row: dict[str, Any]) -> float:
    """Processor time of a plan by the actions that are executed of it [ms]."""
    return row["median_cpu_ms"] / row["num_execute"]
