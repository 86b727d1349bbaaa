"""What the report of `hotloop demo` says, beside its numbers."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import torch

from ...decoding.plumbing.machine import processor_name
from ..measure.pareto_plot import ParetoPoint
from .report import Pareto, PolicyRow

NOTE = (
    "A streaming policy fills its buffer with 4 calls in the first control step of an episode; "
    "from then on it needs the calls of the table. Times are of PyTorch; ONNX Runtime and "
    "OpenVINO are faster, see hotloop bench."
)
EXPLANATION = (
    "A puck is driven past two pillars to the green goal, and touching a pillar ends the episode. "
    "The driver of the demonstrations passes each pillar on a side chosen at random, and nothing "
    "that a policy observes tells which: two actions are right, and what lies between them is "
    "wrong. At the dashed line it is decided; the marks under each scene are the sideways "
    "velocities that were asked for there.",
    "Diffusion Policy begins every plan with fresh noise. With ten calls the noise is moved step "
    "by step to one of the two ways. With one call there is nothing between noise and action, and "
    "the best single guess from noise is the mean of both ways: straight ahead, until it is too "
    "late to turn. Only a puck that is off the middle early enough is steered to the nearer side. "
    "The mean is what denoising is trained to answer, so more training does not help.",
    "A streaming policy does not begin anew. Its buffer holds the next 16 actions, the later the "
    "noisier, and a call takes all of them a quarter of the way to clean, so every action has "
    "seen four calls, one per plan, when it is executed. The decision is made while it "
    "is still far ahead, stays in the buffer from plan to plan, and the next call refines it "
    "instead of taking it again. Distillation teaches the network to make the long step of one "
    "call as its own many short steps would, and from buffers that it produced itself.",
)
COMMENTS = (
    "Either side of each pillar is equally likely.",
    "Plans begin with fresh noise and end on one of the sides.",
    "Ten calls are enough to end on one of the sides.",
    "The mean of two ways leads into the pillar.",
    "The buffer carries the decision, some long steps are inexact.",
    "The buffer carries the decision, and long steps are learnt.",
)


def headline(rows: Sequence[PolicyRow]) -> str:
    """The three rows that matter, in one sentence."""
    _, ten, one, _, last = (row.numbers() for row in rows)
    return (
        f"One network call per plan: {last['success']:.0%} success with streaming, "
        f"{one['success']:.0%} without. Ten calls: {ten['success']:.0%}, at "
        f"{ten['median_ms'] / last['median_ms']:.0f} times the latency"
    )


def summarise(num_demonstrations: int, steps: int, num_episodes: int) -> str:
    """What was done, in a sentence or two."""
    return (
        f"{num_demonstrations} demonstrations of a scripted driver, policies with the same network "
        f"and {steps} optimisation steps each, {num_episodes} episodes per row with seeds that "
        "training never saw: all made on this machine just now."
    )


def facts(task: str, seed: int, seconds: Mapping[str, float], output_dir: Path) -> dict[str, str]:
    """What the numbers were measured on, and how long it took [s]."""
    return {
        "Environment": f"{task}, MuJoCo, 20 control steps a second",
        "Seed": str(seed),
        "Training": f"{seconds['training']:.0f} s, two processes with one thread each",
        "Everything": f"{seconds['everything']:.0f} s, of which two cores computed "
        f"{seconds['processor']:.0f} s together",
        "Processor": f"{processor_name()}, {os.cpu_count()} cores",
        "PyTorch": f"{torch.__version__}, {torch.get_num_threads()} thread(s)",
        "Python": platform.python_version(),
        "Folder": str(output_dir),
    }


def next_commands(output_dir: Path, task: str) -> dict[str, str]:
    """What a newcomer may type next."""
    return {
        f"hotloop eval {output_dir}/student eval.n_episodes=200": "Evaluate the policy again",
        f"hotloop bench {output_dir}/dp {output_dir}/student": "Time both on every engine",
        f"hotloop data inspect {output_dir}/demonstrations.hdf5": "Look at the demonstrations",
        f"hotloop train policy=sdp task={task} "
        f"task.dataset={output_dir}/demonstrations.hdf5": "Train with settings of your own",
        "hotloop eval pusht-sdp": "Score a policy that comes with hotloop",
    }


def pareto(rows: Sequence[PolicyRow]) -> list[Pareto]:
    """This run's scores against latencies, then those of the checkpoints in the package."""
    points = []
    for row in rows:
        family, calls, *more = row.name.split(", ")
        series = ", ".join([family, *more])
        median_ms = row.numbers()["median_ms"]
        points.append(ParetoPoint(series, calls, row.success, row.ci95, median_ms))
    here = Pareto("Two pillars: success", (0.0, 1.0), tuple(points), "Measured in this run.")
    return [here, *measured_before()]


def measured_before() -> list[Pareto]:
    """Results of `tests/benchmarks` on the checkpoints in the package, not measured here."""
    text = resources.files(__package__ or "").joinpath("pareto.json").read_text(encoding="utf-8")
    return [
        Pareto(
            title=one["title"],
            shown=tuple(one["shown"]),
            points=tuple(
                ParetoPoint(**{**point, "interval": tuple(point["interval"])})
                for point in one["points"]
            ),
            source=one["source"],
        )
        for one in json.loads(text)
    ]
