"""Scores of trained checkpoints on Push-T over sampling settings; writes the README's table.

    python tests/benchmarks/benchmark_pusht.py RUNS_DIR OUTPUT.json [--num-episodes 50]

RUNS_DIR holds one run folder per training, named KIND-SEED: ``dp-42``, ``sdp-42`` and
``student-42`` (distilled). Protocol of Diffusion Policy: test seeds from 100000, 300 steps, score =
largest coverage of the mark over 0.95, at most 1; last checkpoint, no selection.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from hotloop.decoding.plumbing.files import write_text
from hotloop.envs.registry import make_task
from hotloop.envs.rollout import evaluate
from hotloop.envs.statistics import bootstrap_interval, summary
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.train.measure.provenance import measurement_header

FIRST_SEED = 100_000
DP_SETTINGS = (
    {"calls_per_step": 100, "update": "ddpm"},
    {"calls_per_step": 100, "update": "ddim"},
    {"calls_per_step": 10, "update": "ddim"},
    {"calls_per_step": 4, "update": "ddim"},
    {"calls_per_step": 2, "update": "ddim"},
    {"calls_per_step": 1, "update": "ddim"},
)
CHUNK_SIZES = (8, 4, 2, 1)


def settings_of(kind: str) -> list[dict[str, Any]]:
    """Sampling settings of the table for one kind of run; None calls are all N / h."""
    if kind == "dp":
        return [dict(setting, num_execute=8) for setting in DP_SETTINGS]
    calls = (None, 2, 1) if kind == "sdp" else (2, 1)
    return [{"num_execute": size, "calls_per_step": c} for size in CHUNK_SIZES for c in calls]


def evaluate_run(run: Path, setting: dict[str, Any], num_episodes: int) -> dict[str, Any]:
    """One training seed, one setting, all episodes."""
    policy = load_checkpoint(run).policy(setting)
    seeds = range(FIRST_SEED, FIRST_SEED + num_episodes)
    evaluation = evaluate(policy, make_task("pusht"), seeds, num_envs=num_episodes)
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs_dir", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--num-episodes", type=int, default=50)
    parser.add_argument("--kinds", nargs="+", default=["dp", "sdp", "student"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for kind in args.kinds:
        runs = sorted(p for p in args.runs_dir.iterdir() if re.fullmatch(rf"{kind}-\d+", p.name))
        for setting in settings_of(kind) if runs else []:
            seeds = [evaluate_run(run, setting, args.num_episodes) for run in runs]
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
            rows.append(row)
            per_seed = ", ".join(f"{seed['mean_score']:.3f}" for seed in seeds)
            print(
                f"{kind:8} Ta {row['num_execute']} calls {row['num_calls']:3} "
                f"{row.get('update', 'ddim')}: {row['mean_score']:.3f} "
                f"({per_seed}), n {row['n']}",
                flush=True,
            )
    header = measurement_header(shlex.join(["python", *sys.argv]))
    write_text(args.output, json.dumps({**header, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
