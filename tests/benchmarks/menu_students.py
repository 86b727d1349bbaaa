"""Students of a benchmark, trained with the command that a user would type, and what they cost."""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
from pathlib import Path

from result_rows import Results

from hotloop.policies.checkpoint import load_checkpoint
from hotloop.train.resume import last_checkpoint
from hotloop.train.state import steps_done

CALLS = (1, 2, 4)


def teacher_of(seed: int, args: argparse.Namespace) -> str:
    """Name or path of a teacher."""
    folder = args.runs_dir / f"dp-{seed}"
    included = seed == 42 and args.task == "pusht" and not folder.exists()
    return "pusht-dp" if included else str(folder)


def ensure_student(results: Results, method: str, seed: int, args: argparse.Namespace) -> None:
    """Train a student if there is none, and write down what that took."""
    run, key = args.runs_dir / f"{method}-{seed}", {"part": "training", "task": args.task}
    key |= {"method": method, "seed": seed}
    if results.has(key):
        return
    teacher, calls = teacher_of(seed, args), ",".join(map(str, CALLS))
    typed = ["hotloop", "distill", teacher, f"method={method}", f"calls={calls}"]
    typed += [f"task.dataset={args.data}", f"seed={seed}", "report=false", f"output_dir={run}"]
    typed += args.override
    begun, began = run.exists(), processor_seconds()
    if not is_finished(run):
        resume = ["resume=true"] if begun else []
        command = [sys.executable, "-m", "hotloop.train.cli", *typed[1:], *resume]
        subprocess.run(command, check=True)
    told, optimised = load_checkpoint(run).provenance, logged_seconds(run)
    # Of a run that was begun before, only the log knows how long all of it took.
    spent = optimised if begun else round(processor_seconds() - began, 1)
    reference = logged_seconds(args.runs_dir / f"dp-{args.timed_teacher}")
    values = {
        "command": " ".join(Path(one).name if Path(one).exists() else one for one in typed[:3]),
        "settings": [one for one in typed[3:] if not one.startswith(("task.", "output_dir"))],
        "steps": told["steps"],
        "batch_size": told["batch_size"],
        "whole_command": not begun,
        "processor_s": spent,
        "optimised_s": optimised,
        "teacher_s": reference,
        "teacher_trainings": spent / reference if spent and reference else None,
    }
    results.add(key, values)


def processor_seconds() -> float:
    """Processor time of all child processes so far [s]."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def is_finished(run: Path) -> bool:
    """Whether a run has done all of its steps."""
    settings = run / "run.json"
    if not settings.exists() or last_checkpoint(run) is None:
        return False
    return json.loads(settings.read_text())["settings"]["steps"] == steps_done(
        run / "checkpoints" / "last"
    )


def logged_seconds(run: Path) -> float | None:
    """How long the steps of a run took by its log [s]; None without one."""
    log = run / "log.csv"
    if not log.exists():
        return None
    batch, last, seconds = load_checkpoint(run).provenance["batch_size"], 0, 0.0
    with log.open(newline="") as file:
        for row in csv.DictReader(file):
            step = int(row["step"])
            seconds += (step - last) * batch / float(row["samples_per_second"])
            last = step
    return round(seconds, 1)
