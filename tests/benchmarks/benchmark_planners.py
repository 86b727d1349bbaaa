"""Planners on locomotion and mazes: scores, where the efficiency comes from, and latency.

    python tests/benchmarks/benchmark_planners.py DATA_DIR RUNS_DIR OUTPUT.json [PART ...]

DATA_DIR holds ``hopper-medium-expert.hdf5`` and so on, from ``hotloop data generate``. Parts are
``scores``, ``ablation``, ``latency`` and ``ablation-latency``, by default all; the last one fills
in the ablation's latencies, needs a quiet machine, and draws OUTPUT.png. Missing runs are trained
with the command that a user would type. Every row is written as soon as it is measured, and rows
that OUTPUT.json has already are not measured again: an interrupted or extended benchmark is
started once more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from planner_plot import plot_scores
from result_rows import Results

from hotloop.envs.registry import make_task
from hotloop.envs.rollout import evaluate
from hotloop.envs.statistics import summary
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.train.data.formats.registry import read_episodes
from hotloop.train.measure.latency import ControlStepTimer, time_interleaved

PARTS = ("scores", "ablation", "latency", "ablation-latency")
# Control steps between two states of a plan: 31 of them span the longest way through the maze.
MAZES = {"maze2d-umaze": 8, "maze2d-medium": 15, "maze2d-large": 25}
DATASETS = (
    *(
        f"{task}-{level}"
        for level in ("medium-expert", "medium")
        for task in ("hopper", "walker2d", "halfcheetah")
    ),
    *MAZES,
)
KINDS = ("trajectory_diffuser", "decision_diffuser", "diffuser")
FIRST_SEED = 200_000  # settings were chosen on others
FAST = {"reuse": 1000, "calls_per_step": 1}
ROLLOUT = {"reuse": 0, "calls_per_step": 2}
# What is scored on every dataset: the checkpoint's own choices, and others for the same weights.
SETTINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "trajectory_diffuser": (FAST, ROLLOUT),
    "decision_diffuser": ({"guidance": 1.2}, {"guidance": 3.0}),
    "diffuser": ({},),
}
TIMED: dict[str, tuple[dict[str, Any], ...]] = {
    "decision_diffuser": ({}, {"calls_per_step": 100}),
    "trajectory_diffuser": (
        *SETTINGS["trajectory_diffuser"],
        {"reuse": 1000, "calls_per_step": 0},
        {"reuse": 0, "calls_per_step": 0},
    ),
    "distilled": (FAST,),
    "diffuser": ({}, {"candidates": 1, "select": "first"}),
}
NUM_STEPS = (0, 1, 2, 5, 10, 20)


def ablation_settings() -> Iterator[tuple[str, dict[str, Any]]]:
    """Refinement steps, how a draft enters them, whether there is one; and what else is offered."""
    warm = {"draft": "rollout", "reuse": 1000}
    for num in NUM_STEPS:
        yield "noised", {**warm, "calls_per_step": num, "add_noise": True}
        if num:
            yield "clean", {**warm, "calls_per_step": num, "add_noise": False}
            yield "no draft", {"draft": "noise", "reuse": 0, "calls_per_step": num}
    for num in (0, 1):
        yield "rollout", {**warm, "reuse": 0, "calls_per_step": num}
    yield "distilled", {**warm, "calls_per_step": 1}
    yield "critic", {**warm, "calls_per_step": 1, "candidates": 16, "select": "critic"}


def task_of(dataset: str) -> str:
    """The task that a dataset is from."""
    return dataset if dataset in MAZES else dataset.split("-")[0]


def choices(dataset: str, kind: str) -> list[str]:
    """What differs from a policy's defaults, for all kinds alike where it concerns them all."""
    if dataset in MAZES:
        return maze_choices(dataset, kind)
    if task_of(dataset) != "halfcheetah":
        return []
    # One step of this robot, 0.05 s, changes its state by its whole spread, of the others a fifth.
    drafter = ["policy.drafter_noise=0.05", "policy.drafter_share=1"]
    return ["policy.model.horizon=8", *(drafter if kind == "trajectory_diffuser" else [])]


def settings(dataset: str, kind: str) -> tuple[dict[str, Any], ...]:
    """What is scored; a goal needs no guidance, so its weight makes no difference in mazes."""
    alike = kind == "decision_diffuser" and dataset in MAZES
    return SETTINGS[kind][-1:] if alike else SETTINGS[kind]


def maze_choices(dataset: str, kind: str) -> list[str]:
    """Mazes have goals instead of returns, and need no critic or value to choose by."""
    parts = {
        "trajectory_diffuser": ["policy.model.critic=false"],
        "decision_diffuser": [],
        "diffuser": [
            "policy.model.value=false",
            "policy.sampling.value_steps=0",
            "policy.sampling.select=first",
            "policy.sampling.candidates=1",
        ],
    }
    return [
        "policy.model.goal_key=observation.goal",
        "policy.model.horizon=32",
        f"policy.model.stride={MAZES[dataset]}",
        *parts[kind],
    ]


def ensure_run(kind: str, dataset: str, seed: int, args: argparse.Namespace) -> Path:
    """Train if there is no finished run; return the run folder."""
    run, steps, chosen = args.runs_dir / f"{dataset}-{kind}-{seed}", args.steps, []
    if kind == "distilled":
        kind, steps = "trajectory_diffuser", args.distill_steps
        # The student starts next to what it must learn; larger steps first take it away from there.
        chosen = [f"distill.teacher={ensure_run(kind, dataset, seed, args)}", "optim.lr=1e-4"]
    if (run / "checkpoints" / f"{steps:06d}").exists():
        return run
    command = [sys.executable, "-m", "hotloop.train.cli", "train", f"policy={kind}", *chosen]
    command += [f"task={task_of(dataset)}", f"task.dataset={args.data_dir / dataset}.hdf5"]
    command += choices(dataset, kind)
    command += [f"seed={seed}", f"steps={steps}", f"save_every={steps // 2}"]
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
    reference = make_task(task_of(dataset)).reference
    assert reference is not None and episodes.rewards is not None
    sums = np.add.reduceat(np.asarray(episodes.rewards), episodes.episode_starts)
    return round(100 * float(np.mean([reference.normalized(float(value)) for value in sums])), 2)


def run_scores(results: Results, args: argparse.Namespace) -> None:
    """One row per dataset, planner, setting and training seed."""
    for dataset in args.datasets:
        data: float | None = None
        for seed in args.seeds:
            for kind in args.kinds:
                for setting in settings(dataset, kind):
                    key = {"part": "scores", "dataset": dataset, "kind": kind, "seed": seed}
                    key["setting"] = setting
                    if results.has(key):
                        continue
                    data = behaviour_score(dataset, args) if data is None else data
                    run = ensure_run(kind, dataset, seed, args)
                    results.add(key, {**score(run, setting, args), "behaviour_score": data})


def ablation_rows(args: argparse.Namespace) -> Iterator[tuple[dict[str, Any], Path]]:
    """What identifies each row of the ablation, on the first dataset and seed, and its run."""
    dataset, seed = args.datasets[0], args.seeds[0]
    for series, setting in ablation_settings():
        key = {"part": "ablation", "dataset": dataset, "seed": seed, "series": series}
        kind = "distilled" if series == "distilled" else "trajectory_diffuser"
        yield {**key, "setting": setting}, ensure_run(kind, dataset, seed, args)


def run_ablation(results: Results, args: argparse.Namespace) -> None:
    """Scores of the ablation."""
    for key, run in ablation_rows(args):
        if not results.has(key):
            results.add(key, score(run, key["setting"], args))


def run_ablation_latency(results: Results, args: argparse.Namespace) -> None:
    """Latencies of all settings of the ablation, taking turns; then the plot."""
    chosen = [(key, run) for key, run in ablation_rows(args) if results.has(key)]
    measured = timing([(run, key["setting"]) for key, run in chosen], args)
    for (key, _), values in zip(chosen, measured, strict=True):
        results.update(key, {**values, "engine": args.engine, "threads": args.threads[0]})
    rows = [row for row in results.rows if row["part"] == "ablation"]
    plot_scores(rows, args.output.with_suffix(".png"))


def run_latency(results: Results, args: argparse.Namespace) -> None:
    """Decisions per second, batch 1, all planners taking turns in one process."""
    dataset, seed = args.datasets[0], args.seeds[0]
    contenders = [
        (kind, setting, ensure_run(kind, dataset, seed, args))
        for kind in TIMED
        if kind == "distilled" or kind in args.kinds
        for setting in TIMED[kind]
    ]
    common = {"part": "latency", "engine": args.engine, "threads": args.threads[0]}
    keys = [
        {**common, "kind": kind, "setting": setting, "dataset": dataset}
        for kind, setting, _ in contenders
    ]
    if all(results.has(key) for key in keys):
        return
    measured = timing([(run, setting) for _, setting, run in contenders], args)
    medians = {kind: values["median_ms"] for (kind, setting, _), values in
               zip(contenders, measured, strict=True) if not setting}  # fmt: skip
    for key, values in zip(keys, measured, strict=True):
        if (baseline := medians.get("decision_diffuser")) is not None:
            values["over_decision_diffuser"] = baseline / values["median_ms"]
        results.add(key, values)


def timing(contenders: list[tuple[Path, dict[str, Any]]], args: Any) -> list[dict[str, Any]]:
    """Duration of control steps of one row [ms], interleaved."""
    # One model per run: its policies share what is exported.
    loaded = {run: load_checkpoint(run) for run, _ in contenders}
    policies = [loaded[run].policy(setting, args.engine) for run, setting in contenders]
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


def in_subprocesses(part: str, args: argparse.Namespace) -> None:
    """One process per thread count, as runtimes fix theirs when they are loaded."""
    others = [one for one in sys.argv[1:] if one not in PARTS]
    for threads in args.threads:
        command = [sys.executable, *sys.argv[:1], *others[:3], part, *others[3:]]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        subprocess.run([*command, "--threads", str(threads)], check=True, env=environment)


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
    parser.add_argument("--distill-steps", type=int, default=1500)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--engine", default="onnx")
    args = parser.parse_args()
    torch.set_num_threads(args.threads[0])
    measure = {
        "scores": run_scores,
        "ablation": run_ablation,
        "latency": run_latency,
        "ablation-latency": run_ablation_latency,
    }
    for part in args.parts:
        if part == "latency" and len(args.threads) > 1:
            in_subprocesses(part, args)
        else:
            measure[part](Results(args.output, silent=("scores",)), args)


if __name__ == "__main__":
    main()
