"""What fewer digits change in vision-language policies: tokens, and success in the same episodes."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from result_rows import Results
from vla_decoders import DECODINGS
from vla_success import evaluation_of, rate

from hotloop.envs.registry import make_task
from hotloop.envs.rollout import evaluate
from hotloop.envs.statistics import compare
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.vla.precision import EXACT, TokenComparison


def run_precision(results: Results, args: argparse.Namespace) -> None:
    """One row per checkpoint, decoder and precision, on the first engine."""
    seeds = range(args.first_seed, args.first_seed + args.episodes)
    for name in args.checkpoints:
        task = str(load_checkpoint(name).provenance["task"])
        for label in args.decodings:
            key = {"part": "precision", "checkpoint": Path(name).name, "decoding": label}
            key |= {"task": task, "engine": args.engines[0], "first_seed": seeds[0]}
            key["n"] = len(seeds)
            for precision in args.precisions:
                row = {**key, "precision": precision}
                if not results.has(row):
                    results.add(row, measure(name, label, precision, task, seeds, args))
            compare_rows(results, key, args.precisions, task, seeds)


def measure(
    name: str, label: str, precision: str, task: str, seeds: range, args: argparse.Namespace
) -> dict[str, Any]:
    """Success, and the share of tokens that float32 decodes from the same observation and guess."""
    choices, engine = DECODINGS[label], args.engines[0]
    policy = load_checkpoint(name).policy(choices, engine, precision=precision)
    comparison = TokenComparison(policy, limit=1_000_000)
    if precision != EXACT:
        policy.comparison = comparison
    progress = f"{name} {label} {precision}"
    evaluation = evaluate(policy, make_task(task), seeds, args.batch_size, progress=progress)
    successes = [int(episode.success) for episode in evaluation.episodes]
    found = {**rate(successes), "wall_s": evaluation.wall_s, "successes": successes}
    if precision == EXACT:
        return found
    tokens = {"equal_tokens": comparison.share, "compared_tokens": comparison.num_tokens}
    return {**tokens, "max_logit_difference": policy.parity, **found}


def compare_rows(
    results: Results, key: dict[str, Any], precisions: list[str], task: str, seeds: range
) -> None:
    """Add the paired difference to float32 where both were measured."""
    exact = results.find({**key, "precision": EXACT})
    for precision in precisions:
        row = results.find({**key, "precision": precision})
        if precision == EXACT or exact is None or row is None or "difference_to_float32" in row:
            continue
        one, other = (evaluation_of(task, seeds, found["successes"]) for found in (exact, row))
        difference = asdict(compare(one, other))
        results.update({**key, "precision": precision}, {"difference_to_float32": difference})
