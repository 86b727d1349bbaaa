"""Scores of trained checkpoints on Push-T over sampling settings; writes the README's table.

    python tests/benchmarks/benchmark_pusht.py RUNS_DIR OUTPUT.json [--num-episodes 50]
    python tests/benchmarks/benchmark_pusht.py RUNS_DIR OUTPUT.json --chunk-sizes 8 --few

RUNS_DIR holds one run folder per training, named KIND-SEED, from vectors or pictures: ``dp-42``,
``sdp-42`` and ``student-42`` (distilled). Protocol of Diffusion Policy: test seeds from 100000,
300 steps, score = largest coverage of the mark over 0.95, at most 1; last checkpoint, no
selection. ``--few`` leaves out what pictures make slow: DP with other than ten calls, students
with two. Rows are compared with ten calls of DP, episode by episode, over the training seeds that
both have.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from robomimic_table import difference

from hotloop.decoding.plumbing.files import write_text
from hotloop.envs.registry import make_task
from hotloop.envs.rollout import evaluate
from hotloop.envs.statistics import bootstrap_interval, summary
from hotloop.envs.workers import environments
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.train.measure.provenance import measurement_header

FIRST_SEED = 100_000
BASELINE = {"calls_per_step": 10, "update": "ddim"}
DP_SETTINGS = (
    {"calls_per_step": 100, "update": "ddpm"},
    {"calls_per_step": 100, "update": "ddim"},
    BASELINE,
    {"calls_per_step": 4, "update": "ddim"},
    {"calls_per_step": 2, "update": "ddim"},
    {"calls_per_step": 1, "update": "ddim"},
)
CHUNK_SIZES = (8, 4, 2, 1)


def settings_of(kind: str, chunk_sizes: Sequence[int], *, few: bool) -> list[dict[str, Any]]:
    """Sampling settings of the table for one kind of run; None calls are all N / h."""
    if kind == "dp":
        wanted = [BASELINE] if few else DP_SETTINGS
        return [dict(setting, num_execute=8) for setting in wanted]
    calls = (None, 2, 1) if kind == "sdp" else (1,) if few else (2, 1)
    return [{"num_execute": size, "calls_per_step": c} for size in chunk_sizes for c in calls]


def evaluate_run(
    run: Path, setting: dict[str, Any], num_episodes: int, num_workers: int = 0
) -> dict[str, Any]:
    """One training seed, one setting, all episodes."""
    checkpoint = load_checkpoint(run)
    policy, task = checkpoint.policy(setting), make_task(str(checkpoint.provenance["task"]))
    seeds = range(FIRST_SEED, FIRST_SEED + num_episodes)
    with environments(task, num_episodes, num_workers) as envs:
        evaluation = evaluate(policy, task, seeds, envs)
    result = summary(evaluation)
    return {
        "seed": int(run.name.rpartition("-")[2]),
        "num_calls": policy.program.num_calls,
        "mean_score": result["mean_score"],
        "ci95": result["ci95"],
        "pc_success": result["pc_success"],
        "scores": [round(episode.score, 4) for episode in evaluation.episodes],
    }


def main() -> None:
    """Evaluate every run and write one row per kind and setting."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs_dir", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--num-episodes", type=int, default=50)
    parser.add_argument("--kinds", nargs="+", default=["dp", "sdp", "student"])
    parser.add_argument("--chunk-sizes", nargs="+", type=int, default=list(CHUNK_SIZES))
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--workers", type=int, default=0, help="processes that simulate")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for kind in args.kinds:
        runs = sorted(p for p in args.runs_dir.iterdir() if re.fullmatch(rf"{kind}-\d+", p.name))
        for setting in settings_of(kind, args.chunk_sizes, few=args.few) if runs else []:
            seeds = [evaluate_run(run, setting, args.num_episodes, args.workers) for run in runs]
            rows.append(row_of(kind, setting, seeds, rows))
            print(line_of(rows[-1]), flush=True)
            header = measurement_header(shlex.join(["python", *sys.argv]))
            write_text(args.output, json.dumps({**header, "rows": rows}, indent=1) + "\n")


def row_of(
    kind: str, setting: dict[str, Any], seeds: list[dict[str, Any]], others: list[dict[str, Any]]
) -> dict[str, Any]:
    """One row over training seeds, compared with ten calls of DP where those are among `others`."""
    scores = [score for seed in seeds for score in seed["scores"]]
    row = {
        "kind": kind,
        **setting,
        "num_calls": seeds[0]["num_calls"],
        "mean_score": mean(seed["mean_score"] for seed in seeds),
        "ci95": list(bootstrap_interval(scores)),
        "n": len(scores),
        "training_seeds": seeds,
    }
    found = [other for other in others if {"kind": "dp", **BASELINE}.items() <= other.items()]
    if kind != "dp" and found:
        row["minus_dp"] = difference(found[0]["training_seeds"], seeds)
    return row


def line_of(row: dict[str, Any]) -> str:
    """What is printed of a row."""
    per_seed = ", ".join(f"{seed['mean_score']:.3f}" for seed in row["training_seeds"])
    text = (
        f"{row['kind']:8} Ta {row['num_execute']} calls {row['num_calls']:3} "
        f"{row.get('update', 'ddim')}: {row['mean_score']:.3f} ({per_seed}), n {row['n']}"
    )
    if (gain := row.get("minus_dp")) is not None:
        low, high = gain["ci95"]
        text += f", minus DP-10 {gain['mean']:+.3f} ({low:+.3f} to {high:+.3f})"
    return text


if __name__ == "__main__":
    main()
