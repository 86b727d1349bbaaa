"""Success of vision-language policies with every decoder, on the same episodes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from result_rows import Results
from vla_decoders import DECODINGS

from hotloop.decoding import ActionTrajectory, Observation
from hotloop.envs.metaworld import SUBTASKS
from hotloop.envs.registry import make_task
from hotloop.envs.rollout import Episode, Evaluation, evaluate
from hotloop.envs.statistics import compare, wilson_interval
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.vla import VlaPolicy

SHUFFLED = "-shuffled"


class CountedPolicy:
    """A policy of tokens that remembers what its decoder did.

    Args:
        policy: What decodes.
    """

    def __init__(self, policy: VlaPolicy) -> None:
        self._policy = policy
        self.action_spec, self.num_execute = policy.action_spec, policy.num_execute
        self.observation_spec = policy.observation_spec
        self.reset = policy.reset
        self.num_calls: list[int] = []
        self.num_verified: list[int] = []

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        trajectory, decoded = self._policy.plan(observation, step), self._policy.decoded
        assert decoded is not None
        self.num_calls += decoded.num_calls.tolist()
        self.num_verified += decoded.num_verified.tolist()
        return trajectory


def run_success(results: Results, args: argparse.Namespace) -> None:
    """One row per checkpoint and decoder, and the control whose instructions are shuffled."""
    seeds = range(args.first_seed, args.first_seed + args.episodes)
    teacher = args.checkpoints[0]
    runs = [(teacher, "greedy", ""), (teacher, "greedy", SHUFFLED)]
    runs += [(name, label, "") for name in args.checkpoints for label in args.decodings]
    for name, label, suffix in dict.fromkeys(runs):
        task = str(load_checkpoint(name).provenance["task"]) + suffix
        key = {"part": "success", "checkpoint": Path(name).name, "decoding": label, "task": task}
        key |= {"engine": args.engines[0], "first_seed": seeds[0], "n": len(seeds)}
        if not results.has(key):
            reference = {**key, "checkpoint": Path(teacher).name, "decoding": "greedy"}
            found = results.find(reference)
            results.add(
                key, measure(name, label, task, seeds, args.batch_size, found, args.engines[0])
            )


def measure(
    name: str,
    label: str,
    task: str,
    seeds: range,
    batch_size: int,
    reference: dict[str, Any] | None,
    engine: str,
) -> dict[str, Any]:
    """Success with intervals, compared with a reference's episode by episode, and forwards."""
    policy = CountedPolicy(load_checkpoint(name).policy(DECODINGS[label], engine))
    evaluation = evaluate(policy, make_task(task), seeds, batch_size, progress=f"{name} {label}")
    successes = [int(episode.success) for episode in evaluation.episodes]
    difference = None
    if reference is not None:
        difference = asdict(compare(evaluation_of(task, seeds, reference["successes"]), evaluation))
    return {
        **rate(successes),
        "instructions": {
            subtask.instruction: rate(told)
            for number, subtask in enumerate(SUBTASKS)
            if (told := successes_of(number, seeds, successes))
        },
        "difference_to_greedy_teacher": difference,
        "mean_forwards": float(np.mean(policy.num_calls)),
        "mean_verified_tokens": float(np.mean(policy.num_verified)),
        "num_chunks": len(policy.num_calls),
        "mean_steps": float(np.mean([episode.num_steps for episode in evaluation.episodes])),
        "wall_s": evaluation.wall_s,
        "successes": successes,
    }


def rate(successes: Sequence[int]) -> dict[str, Any]:
    """Share of successes with its 95 % interval."""
    return {
        "success": float(np.mean(successes)),
        "ci95": list(wilson_interval(sum(successes), len(successes))),
    }


def successes_of(number: int, seeds: range, successes: Sequence[int]) -> list[int]:
    """Those of the episodes of one instruction; the seed decides which an episode is about."""
    return [
        success
        for seed, success in zip(seeds, successes, strict=True)
        if seed % len(SUBTASKS) == number
    ]


def evaluation_of(task: str, seeds: range, successes: Sequence[int]) -> Evaluation:
    """An evaluation from the successes of a row."""
    episodes = tuple(
        Episode(index, seed, float(success), bool(success), 0.0, 0.0, 0)
        for index, (seed, success) in enumerate(zip(seeds, successes, strict=True))
    )
    return Evaluation(task, "success", episodes, 0.0, 0.0)
