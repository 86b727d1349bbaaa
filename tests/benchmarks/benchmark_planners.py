"""Planners on D4RL-style locomotion: scores, where the efficiency comes from, and latency.

    python tests/benchmarks/benchmark_planners.py DATA_DIR RUNS_DIR OUTPUT.json [PART ...]

DATA_DIR holds ``hopper-medium-expert.hdf5`` and so on, from ``hotloop data generate``. Parts are
``scores``, ``ablation`` and ``latency``, by default all. Missing runs are trained with the command
that a user would type. Every row is written as soon as it is measured, and rows that OUTPUT.json
has already are not measured again: an interrupted or extended benchmark is started once more.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results_file import Results

from hotloop.envs.registry import make_task
from hotloop.envs.rollout import evaluate
from hotloop.envs.statistics import summary
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.train.data.formats import read_episodes
from hotloop.train.latency import ControlStepTimer, time_interleaved

PARTS = ("scores", "ablation", "latency")
DATASETS = tuple(
    f"{task}-{level}"
    for level in ("medium-expert", "medium")
    for task in ("hopper", "walker2d", "halfcheetah")
)
KINDS = ("trajectory_diffuser", "decision_diffuser", "diffuser")
FIRST_SEED = 200_000  # settings were chosen on others
FAST = {"reuse": 1000, "refine_steps": 1}
ROLLOUT = {"reuse": 0, "refine_steps": 2}
# What is scored on every dataset: the checkpoint's own choices, and others for the same weights.
SETTINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "trajectory_diffuser": (FAST, ROLLOUT, {**FAST, "guidance": 1.0}),
    "decision_diffuser": ({},),
    "diffuser": ({},),
}
NUM_STEPS = (0, 1, 2, 5, 10, 20)
TIMED: dict[str, tuple[dict[str, Any], ...]] = {
    "trajectory_diffuser": (*SETTINGS["trajectory_diffuser"], {"reuse": 0, "refine_steps": 0}),
    "decision_diffuser": ({}, {"refine_steps": 100}),
    "diffuser": ({}, {"candidates": 1, "select": "first"}),
}


def ablation_settings() -> Iterator[dict[str, Any]]:
    """Refinement steps, how a draft enters them, and whether there is one."""
    for num in NUM_STEPS:
        yield {"draft": "rollout", "reuse": 1000, "refine_steps": num, "add_noise": True}
        if num:
            yield {"draft": "rollout", "reuse": 1000, "refine_steps": num, "add_noise": False}
            yield {"draft": "noise", "refine_steps": num, "reuse": 0}
    for others in (
        {"reuse": 0, "refine_steps": 0},
        {"reuse": 0},
        {"reuse": 0, "refine_steps": 2},
        {"sweeps": 2},
        {"candidates": 16, "select": "critic"},
        {"guidance": 0.0},
        {"guidance": 1.0},
        {"guidance": 3.0},
        {"return_floor": 1.0},
        {"num_execute": 2},
    ):
        yield {"draft": "rollout", "reuse": 1000, "refine_steps": 1, **others}


def ensure_run(kind: str, dataset: str, seed: int, args: argparse.Namespace) -> Path:
    """Train if there is no finished run; return the run folder."""
    run = args.runs_dir / f"{dataset}-{kind}-{seed}"
    if (run / "checkpoints" / f"{args.steps:06d}").exists():
        return run
    command = [sys.executable, "-m", "hotloop.train.cli", "train", f"policy={kind}"]
    command += [f"task={dataset.split('-')[0]}", f"task.dataset={args.data_dir / dataset}.hdf5"]
    command += [f"seed={seed}", f"steps={args.steps}", f"save_every={args.steps // 2}"]
    command += [f"output_dir={run}"]
    if (run / "checkpoints" / "last").exists():
        command.append("resume=true")
    subprocess.run(command, check=True)
    return run


def score(run: Path, setting: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Normalised score, times 100, over fixed episodes."""
    checkpoint = load_checkpoint(run)
    policy = checkpoint.policy(setting)
    seeds = range(FIRST_SEED, FIRST_SEED + args.num_episodes)
    task = make_task(str(checkpoint.provenance["task"]))
    evaluation = evaluate(policy, task, seeds, num_envs=args.num_episodes)
    result = summary(evaluation)
    return {
        "score": round(100 * result["mean_score"], 2),
        "standard_error": round(100 * result["standard_error"], 2),
        "mean_length": float(np.mean([episode.num_steps for episode in evaluation.episodes])),
        "n": result["n"],
        "training_steps": checkpoint.provenance["steps"],
        "scores": [round(100 * episode.score, 2) for episode in evaluation.episodes],
    }


def behaviour_score(dataset: str, args: argparse.Namespace) -> float:
    """Mean normalised score, times 100, of the episodes that were trained on."""
    episodes = read_episodes(args.data_dir / f"{dataset}.hdf5", None)
    reference = make_task(dataset.split("-")[0]).reference
    assert reference is not None and episodes.rewards is not None
    sums = np.add.reduceat(np.asarray(episodes.rewards), episodes.episode_starts)
    return round(100 * float(np.mean([reference.normalized(float(value)) for value in sums])), 2)


def run_scores(results: Results, args: argparse.Namespace) -> None:
    """One row per dataset, planner, setting and training seed."""
    for dataset in args.datasets:
        data: float | None = None
        for seed in args.seeds:
            for kind in args.kinds:
                for setting in SETTINGS[kind]:
                    key = {"part": "scores", "dataset": dataset, "kind": kind, "seed": seed}
                    key["setting"] = setting
                    if results.has(key):
                        continue
                    data = behaviour_score(dataset, args) if data is None else data
                    run = ensure_run(kind, dataset, seed, args)
                    results.add(key, {**score(run, setting, args), "behaviour_score": data})


def run_ablation(results: Results, args: argparse.Namespace) -> None:
    """One row per setting of the Trajectory Diffuser, on the first dataset and seed."""
    dataset, seed = args.datasets[0], args.seeds[0]
    for setting in ablation_settings():
        key = {"part": "ablation", "dataset": dataset, "seed": seed, "setting": setting}
        if not results.has(key):
            run = ensure_run("trajectory_diffuser", dataset, seed, args)
            results.add(key, {**score(run, setting, args), **timing([(run, setting)], args)[0]})


def run_latency(results: Results, args: argparse.Namespace) -> None:
    """Decisions per second, batch 1, all planners taking turns in one process."""
    dataset, seed = args.datasets[0], args.seeds[0]
    contenders = [
        (kind, setting, ensure_run(kind, dataset, seed, args))
        for kind in args.kinds
        for setting in TIMED[kind]
    ]
    keys = [
        {"part": "latency", "kind": kind, "setting": setting, "engine": args.engine,
         "threads": args.threads, "dataset": dataset}
        for kind, setting, _ in contenders
    ]  # fmt: skip
    if all(results.has(key) for key in keys):
        return
    measured = timing([(run, setting) for _, setting, run in contenders], args)
    for key, values in zip(keys, measured, strict=True):
        results.add(key, values)


def timing(contenders: list[tuple[Path, dict[str, Any]]], args: Any) -> list[dict[str, Any]]:
    """Duration of control steps of one row [ms], interleaved."""
    policies = [load_checkpoint(run).policy(setting, args.engine) for run, setting in contenders]
    timers = [ControlStepTimer(policy) for policy in policies]
    time_interleaved(timers, args.num_timed)
    return [
        {
            "median_ms": float(np.median(timer.plan_ms)),
            "p99_ms": float(np.quantile(timer.plan_ms, 0.99)),
            "decisions_per_second": 1000 / float(np.median(timer.plan_ms)),
            "horizon": policy.model.config.horizon,
            "parity": policy.parity,
            "num_timed": len(timer.plan_ms),
        }
        for policy, timer in zip(policies, timers, strict=True)
    ]


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("runs_dir", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART")
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--num-episodes", type=int, default=20)
    parser.add_argument("--num-timed", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--engine", default="onnx")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = Results(args.output)
    for part in args.parts:
        {"scores": run_scores, "ablation": run_ablation, "latency": run_latency}[part](
            results, args
        )


if __name__ == "__main__":
    main()
