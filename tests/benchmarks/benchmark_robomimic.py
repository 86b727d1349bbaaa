"""Lift, Can and Square by robomimic's protocol: DP beside SDP, streaming and distilled.

    python tests/benchmarks/benchmark_robomimic.py DATA RUNS OUTPUT.json [--seeds 42 43]
    python tests/benchmarks/robomimic_table.py OUTPUT.json

DATA holds ``lift.hdf5`` and so on; what is missing is generated, 200 demonstrations each. Missing
runs are trained with the command that a user would type, into RUNS/TASK-KIND-SEED. Episodes start
from seeds 100000 on, take up to 400 steps and are solved or not; the last checkpoint counts. Every
row is written as soon as it is measured, with the comparisons episode by episode of what there is;
rows that OUTPUT.json has are kept, so an interrupted or extended benchmark is started once more.
The second command prints the tables of the results page.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from result_rows import Results
from robomimic_table import format_tables, summaries

from hotloop.decoding.plumbing.files import write_text
from hotloop.envs.registry import make_task
from hotloop.envs.rollout import evaluate
from hotloop.envs.statistics import summary
from hotloop.envs.workers import environments
from hotloop.policies.checkpoint import load_checkpoint

HOTLOOP = (sys.executable, "-m", "hotloop.train.cli")
FIRST_SEED = 100_000
TASKS = ("lift", "can", "square", "can-abs", "square-abs", "lift-image", "can-image")
# How each kind is sampled; null calls are all N / h.
SETTINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "dp": ({"calls_per_step": 10},),
    "student": ({"calls_per_step": 1},),
    "sdp": tuple({"calls_per_step": calls} for calls in (None, 2, 1)),
}
NUM_EXECUTE = 8
# Of DP and SDP, as many as the task needs; students take half, and the teacher's network.
STEPS = {"lift": 2000, "can": 8000, "square": 20000, "lift-image": 6000, "can-image": 6000}
# What differs from the defaults: a network as large as the task needs, and what pictures and
# absolute poses need. Students learn from features and take over all of it.
WIDTHS = {"lift": 256, "can": 512, "square": 512}
POSES = ("policy.model.rotations=[3]",)
PICTURES = (
    "policy.model.encoder.crop=[76,76]",
    "policy.num_draws=4",
    "batch_size=64",
    "precision=bf16",
)


def training_steps(task: str, kind: str, args: argparse.Namespace) -> int:
    """How long one kind of policy is trained."""
    steps = args.steps or STEPS[task.replace("-abs", "")]
    return steps // 2 if kind == "student" else steps


def ensure_data(task: str, args: argparse.Namespace) -> Path:
    """Demonstrate a task, in pictures if it is seen, if there is no file; return the file."""
    path = args.data_dir / f"{task.replace('-abs', '')}.hdf5"
    if not path.exists():
        command = ["data", "generate", task.partition("-")[0], str(path), "--num-episodes", "200"]
        command += ["--pictures"] if task.endswith("-image") else []
        subprocess.run([*HOTLOOP, *command], check=True)
    return path


def training_command(task: str, kind: str, seed: int, args: argparse.Namespace) -> list[str]:
    """What a user would type; a student takes its teacher's run folder."""
    dataset = ensure_data(task, args)
    policy = "dp" if kind == "dp" else "sdp"
    command = ["hotloop", "train", f"policy={policy}", f"task={task}", f"task.dataset={dataset}"]
    sees, steps = task.endswith("-image"), training_steps(task, kind, args)
    if kind == "student":
        command.append(f"distill.teacher={args.runs_dir / f'{task}-sdp-{seed}'}")
    else:
        command.append(f"policy.model.network.width={WIDTHS[task.partition('-')[0]]}")
        command += [*(POSES if "-abs" in task else ()), *(PICTURES if sees else ())]
    command += [f"seed={seed}", f"steps={steps}", "save_every=1000"]
    return [*command, f"output_dir={args.runs_dir / f'{task}-{kind}-{seed}'}"]


def ensure_run(task: str, kind: str, seed: int, args: argparse.Namespace) -> Path:
    """Train if there is no finished run; its command and processor time go into its folder."""
    if kind == "student":
        ensure_run(task, "sdp", seed, args)
    run = args.runs_dir / f"{task}-{kind}-{seed}"
    steps, notes = training_steps(task, kind, args), run / "benchmark.json"
    if (run / "checkpoints" / f"{steps:06d}").exists():
        return run
    command = training_command(task, kind, seed, args)
    resumed = ["resume=true"] if (run / "checkpoints" / "last").exists() else []
    before = json.loads(notes.read_text())["cpu_s"] if resumed and notes.exists() else 0.0
    began = _children_s()
    subprocess.run([*HOTLOOP, *command[1:], *resumed], check=True)
    facts = {"command": shlex.join(command), "cpu_s": round(before + _children_s() - began)}
    write_text(notes, json.dumps(facts) + "\n")
    return run


def _children_s() -> float:
    """Processor time of all ended child processes [s]."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def score(
    run: Path, name: str, setting: dict[str, Any], args: argparse.Namespace
) -> dict[str, Any]:
    """Which episodes one training solves, sampled in one way."""
    policy, task = load_checkpoint(run).policy(setting), make_task(name)
    seeds = range(FIRST_SEED, FIRST_SEED + args.num_episodes)
    with environments(task, min(10, task.side_by_side, len(seeds)), args.workers) as envs:
        evaluation = evaluate(policy, task, seeds, envs)
    result, episodes = summary(evaluation), evaluation.episodes
    notes = run / "benchmark.json"
    return {
        "num_calls": policy.program.num_calls,
        "pc_success": result["pc_success"],
        "n": result["n"],
        "mean_length": sum(episode.num_steps for episode in episodes) / len(episodes),
        "eval_s": round(result["eval_s"]),
        "training": json.loads(notes.read_text()) if notes.exists() else None,
        "scores": [int(episode.success) for episode in episodes],
    }


def measure(results: Results, args: argparse.Namespace) -> None:
    """One row per training seed, task, kind and setting; tasks before further seeds."""
    rows = [
        {"part": "scores", "task": task, "kind": kind, "seed": seed, **setting}
        for seed in args.seeds
        for task in args.tasks
        for kind in args.kinds
        for setting in SETTINGS[kind]
    ]
    for key in rows:
        if results.has(key):
            continue
        run = ensure_run(key["task"], key["kind"], key["seed"], args)
        setting = {"calls_per_step": key["calls_per_step"], "num_execute": NUM_EXECUTE}
        values = score(run, key["task"], setting, args)
        results.add(key, {**setting, **values})
        compare(results)


def compare(results: Results) -> None:
    """Write the comparisons of all rows that are there, in place of older ones."""
    scores = [row for row in results.rows if row["part"] == "scores"]
    results.rows[:] = [*scores, *summaries(scores)]
    results.write()


def main() -> None:
    """Measure what is missing, compare, print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("runs_dir", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--kinds", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    parser.add_argument("--num-episodes", type=int, default=50)
    parser.add_argument("--workers", type=int, default=0, help="processes that simulate")
    parser.add_argument("--collect", action="store_true", help="compare what is there, no more")
    parser.add_argument("--steps", type=int, help="of every training, to try the benchmark out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(args.output, silent=("scores", "training"))
    if not args.collect:
        measure(results, args)
    compare(results)
    print(format_tables(results.rows))


if __name__ == "__main__":
    main()
