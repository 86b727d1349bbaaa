"""Every way to make a Diffusion Policy faster, side by side: success, latency, diversity, cost.

    python tests/benchmarks/benchmark_menu.py RUNS OUT.json --data DATA [PART ...]

RUNS holds the teachers, ``dp-42``, ``dp-43`` and ``dp-44`` of one task (of Push-T, the included
pusht-dp stands in for a missing ``dp-42``); DATA is what they learned from. Missing students are
trained with the command that a user would type, into ``RUNS/METHOD-SEED``. Streaming students
``RUNS/student-SEED``, and the included pusht-sdp, are measured beside them. Parts are ``scores``
(and diversity), ``latency`` and ``summary``, by default all; ``latency`` needs a quiet machine, and
``summary`` draws OUT.png. Every row is written as soon as it is measured, and rows that OUT.json
has already are not measured again: an interrupted or extended benchmark is started once more.
Several tasks may share one OUT.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from menu_plot import UNDISTILLED, plot_menu
from menu_students import CALLS, ensure_student, teacher_of
from result_rows import Results
from robomimic_table import difference

from hotloop.envs.registry import make_task
from hotloop.envs.rollout import evaluate
from hotloop.envs.statistics import bootstrap_interval, summary, wilson_interval
from hotloop.envs.workers import environments
from hotloop.policies.checkpoint import Checkpoint, load_checkpoint
from hotloop.train.data.episodes import Episodes
from hotloop.train.distillation.methods import METHODS
from hotloop.train.distillation.parity import states_of
from hotloop.train.distillation.run import compose_distillation
from hotloop.train.measure.diversity import MIN_RATIO, action_samples, compare_samples
from hotloop.train.measure.executed import Watched, rms_jerk
from hotloop.train.measure.latency import ControlStepTimer, time_interleaved
from hotloop.train.training import demonstrations

PARTS = ("scores", "latency", "summary")
FIRST_SEED = 100_000
STREAMING = "segment (streaming)"
BASELINE = {"method": UNDISTILLED, "calls": 10}
NUM_STATES, NUM_SAMPLES = 32, 256


def methods_of(args: argparse.Namespace) -> list[str]:
    """What is compared: every method for Diffusion Policy but the streaming one."""
    fitting = [name for name in METHODS.names if "dp" in METHODS.get(name).teachers]
    return args.methods or [name for name in fitting if name != "segment"]


def contenders(seed: int, args: argparse.Namespace) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Method and calls, checkpoint, and sampling choices; students are trained if missing."""
    teacher = teacher_of(seed, args)
    for num in (100, 10, *reversed(CALLS)):
        update = "ddpm" if num == 100 else "ddim"
        if num <= load_checkpoint(teacher).model.config.num_levels:
            key = {"method": UNDISTILLED, "calls": num}
            yield key, teacher, {"calls_per_step": num, "update": update}
    streaming = args.runs_dir / f"student-{seed}"
    if streaming.exists() or (seed == 42 and args.task == "pusht"):
        name = str(streaming) if streaming.exists() else "pusht-sdp"
        yield {"method": STREAMING, "calls": 1}, name, {"calls_per_step": 1}
    for method in methods_of(args):
        run = args.runs_dir / f"{method}-{seed}"
        for num in CALLS:
            yield {"method": method, "calls": num}, str(run), {"calls_per_step": num}


def run_scores(results: Results, args: argparse.Namespace) -> None:
    """Episodes and samples of every contender, one row per teacher."""
    episodes: Episodes | None = None
    for seed in args.seeds:
        for method in methods_of(args):
            ensure_student(results, method, seed, args)
        samples: np.ndarray | None = None
        for index, (name, checkpoint, sampling) in enumerate(contenders(seed, args), 1):
            key = {"part": "scores", "task": args.task, **name, "seed": seed}
            if results.has(key):
                continue
            if episodes is None:
                work = compose_distillation(teacher_of(seed, args), [f"task.dataset={args.data}"])
                episodes, _ = demonstrations(work.config)
            teacher = load_checkpoint(teacher_of(seed, args))
            if samples is None:
                samples = sample(teacher, {}, episodes, 0)
            student = load_checkpoint(checkpoint)
            row = score(student, sampling, args)
            if student.policy(sampling).num_execute == teacher.sampling.num_execute:
                found = compare_samples(samples, sample(student, sampling, episodes, index))
                row["diversity_ratio"] = found.ratio
                row["energy_distance"] = found.energy_distance
            results.add(key, row)


def sample(
    checkpoint: Checkpoint, sampling: dict[str, Any], episodes: Episodes, index: int
) -> np.ndarray:
    """Actions at states of the demonstrations, see `action_samples`."""
    policy = checkpoint.policy(sampling)
    frames = states_of(episodes, policy.observation_spec, NUM_STATES)
    return action_samples(policy, frames, NUM_SAMPLES, seed=index * NUM_STATES * NUM_SAMPLES)


def score(
    checkpoint: Checkpoint, sampling: dict[str, Any], args: argparse.Namespace
) -> dict[str, Any]:
    """Success, score and smoothness over the fixed episodes."""
    task = make_task(args.task)
    seeds = range(FIRST_SEED, FIRST_SEED + args.num_episodes)
    watched = Watched(checkpoint.policy(sampling))
    side_by_side = min(task.side_by_side, len(seeds))
    with environments(task, side_by_side, args.workers) as envs:
        evaluation = evaluate(watched, task, seeds, envs)
    result = summary(evaluation)
    return {
        "success": result["pc_success"] / 100,
        "score": result["mean_score"],
        "n": result["n"],
        "jerk": rms_jerk(watched.episodes(evaluation), task.action_spec),
        "scores": [round(episode.score, 4) for episode in evaluation.episodes],
        "successes": [episode.success for episode in evaluation.episodes],
    }


def run_latency(results: Results, args: argparse.Namespace) -> None:
    """Control steps of every contender of the first teacher, one thread, in turns."""
    found = list(contenders(args.seeds[0], args))
    timers = []
    for _, checkpoint, sampling in found:
        policy = load_checkpoint(checkpoint).policy(sampling, args.engine)
        timers.append(ControlStepTimer(policy))
    time_interleaved(timers, args.num_timed, args.engine)
    for (name, _, _), timer in zip(found, timers, strict=True):
        key = {"part": "latency", "task": args.task, **name, "engine": args.engine, "threads": 1}
        values = {
            "median_ms": float(np.median(timer.plan_ms)),
            "p99_ms": float(np.quantile(timer.plan_ms, 0.99)),
            "num_timed": len(timer.plan_ms),
        }
        if results.has(key):
            results.update(key, values)
        else:
            results.add(key, values)


def run_summary(results: Results, args: argparse.Namespace) -> None:
    """Means over the teachers, differences to ten calls of them; then the plot."""
    rows = [row for row in results.rows if row["part"] == "scores"]
    for task, method, calls in dict.fromkeys((r["task"], r["method"], r["calls"]) for r in rows):
        name = {"task": task, "method": method, "calls": calls}
        chosen = [row for row in rows if name.items() <= row.items()]
        base = [row for row in rows if {"task": task, **BASELINE}.items() <= row.items()]
        values = summary_of(chosen, base)
        time = results.find({"part": "latency", **name})
        values["median_ms"] = time["median_ms"] if time else None
        trained = [row for row in results.rows if row["part"] == "training"]
        costs = [
            row["teacher_trainings"]
            for row in trained
            if row["task"] == task and row["method"] == method and row.get("teacher_trainings")
        ]
        values["teacher_trainings"] = float(np.mean(costs)) if costs else None
        key = {"part": "summary", **name}
        if results.has(key):
            results.update(key, values)
        else:
            results.add(key, values)
    plot_menu(
        [row for row in results.rows if row["part"] == "summary"], args.output.with_suffix(".png")
    )


def summary_of(rows: list[dict[str, Any]], base: list[dict[str, Any]]) -> dict[str, Any]:
    """One method at one number of calls, over its teachers."""
    successes = [success for row in rows for success in row["successes"]]
    scores = [score for row in rows for score in row["scores"]]
    known = [row for row in rows if row.get("diversity_ratio") is not None]
    ratio = float(np.mean([row["diversity_ratio"] for row in known])) if known else None
    distance = float(np.mean([row["energy_distance"] for row in known])) if known else None
    return {
        "success": float(np.mean(successes)),
        "success_ci95": list(wilson_interval(sum(successes), len(successes))),
        "score": float(np.mean(scores)),
        "score_ci95": list(bootstrap_interval(scores)),
        "per_teacher": [row["score"] for row in rows],
        "minus_dp_10": difference(base, rows) if base else None,
        "jerk": float(np.mean([row["jerk"] for row in rows])),
        "diversity_ratio": ratio,
        "energy_distance": distance,
        "collapsed": ratio is not None and ratio < MIN_RATIO,
        "n": len(scores),
    }


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs_dir", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART")
    parser.add_argument("--data", default="", help="demonstrations that the teachers learned from")
    parser.add_argument("--task", default="pusht", help="what the teachers were trained for")
    parser.add_argument("--timed-teacher", type=int, default=43, help="whose log is the unit")
    parser.add_argument("--methods", nargs="+", default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--override", nargs="+", default=[], help="key=value for all trainings")
    parser.add_argument("--num-episodes", type=int, default=50)
    parser.add_argument("--num-timed", type=int, default=400)
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--workers", type=int, default=0, help="processes that simulate")
    args = parser.parse_args()
    torch.set_num_threads(1)
    measure = {"scores": run_scores, "latency": run_latency, "summary": run_summary}
    teacher = load_checkpoint(teacher_of(args.seeds[0], args))
    if (task := teacher.provenance["task"]) != args.task:
        parser.error(f"the teachers were trained for {task}; write --task {task}")
    for part in args.parts:
        measure[part](Results(args.output, silent=("scores", "successes")), args)


if __name__ == "__main__":
    main()
