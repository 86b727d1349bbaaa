"""The whole way once, on any machine: demonstrations, training, evaluation, latency, report."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...decoding import Policy
from ...envs.expert import SCRIPTED_EXPERTS
from ...envs.registry import make_task
from ...envs.rollout import evaluate
from ...envs.statistics import summary
from ...envs.video import Video
from ...policies.checkpoint import load_checkpoint
from ..demonstrations.generate import Collection, generate_demonstrations
from ..measure.latency import ControlStepTimer, time_interleaved
from .report import Animation, DemoReport, Panel, PolicyRow, write_report
from .rollouts import Rollouts, demonstrate, middle_start, roll_out
from .side_by_side import Training, train_side_by_side
from .texts import COMMENTS, EXPLANATION, NOTE, facts, headline, next_commands, pareto, summarise

TASK = "pillars"
NUM_DEMONSTRATIONS = 300
NUM_EXECUTE = 4
STEPS = 8000  # of each policy; the streaming one spends half of them on distillation
DISTILLATION_STEPS = 4000
NUM_PATHS = 24
NUM_LATENCIES = 200
# Demonstrations begin with seeds that no evaluation uses.
FIRST_DEMONSTRATION, FIRST_EPISODE = 1_000_000, 100_000


@dataclass(frozen=True)
class Contender:
    """A row of the report: a trained policy and how it is sampled."""

    name: str
    run: str
    sampling: Mapping[str, Any]


CONTENDERS = (
    Contender("Diffusion Policy, 100 calls", "dp", {"calls_per_step": 100, "update": "ddpm"}),
    Contender("Diffusion Policy, 10 calls", "dp", {"calls_per_step": 10}),
    Contender("Diffusion Policy, 1 call", "dp", {"calls_per_step": 1}),
    Contender("Streaming, 1 call, not distilled", "sdp", {"calls_per_step": 1}),
    Contender("Streaming, 1 call, distilled", "student", {"calls_per_step": 1}),
)


def trainings(seed: int) -> list[list[Training]]:
    """The two chains of trainings that run side by side.

    Both policies have the same network, data, horizon and number of optimisation steps.
    """
    common = (
        f"task={TASK}",
        "task.dataset=demonstrations.hdf5",
        f"seed={seed}",
        f"policy.sampling.num_execute={NUM_EXECUTE}",
    )
    network = "policy.model.network.width=256"  # the student takes its teacher's
    ladder = f"policy.model.ladders=[{NUM_EXECUTE}x4]"
    distillation = (
        "distill.teacher=sdp",
        "distill.calls_per_step=[1]",
        "distill.num_visits=512",
        "distill.visited=0.6",
        "distill.denoising=0.1",
        "distill.start=0.1",
        "policy.sampling.calls_per_step=1",
        "save_every=500",
    )
    return [
        [Training("dp", STEPS, ("policy=dp", *common, network))],
        [
            Training("sdp", STEPS - DISTILLATION_STEPS, ("policy=sdp", *common, network, ladder)),
            Training("student", DISTILLATION_STEPS, ("policy=sdp", *common, *distillation)),
        ],
    ]


def run_demo(output_dir: Path, seed: int, num_episodes: int) -> DemoReport:
    """Run every stage, write ``report.html`` and ``report.json`` to `output_dir`.

    Args:
        output_dir: New or empty folder.
        seed: Seed of the demonstrations and of all trainings.
        num_episodes: Evaluation episodes per row of the table.

    Raises:
        FileExistsError: If the folder is not empty.
        RuntimeError: If a training fails.
        ValueError: If a number is out of range.
    """
    if seed < 0 or num_episodes < 1:
        raise ValueError(
            f"seed must be at least 0 and num_episodes at least 1, got {seed} and {num_episodes}"
        )
    if output_dir.exists() and any(output_dir.iterdir()):
        raise FileExistsError(f"{output_dir} is not empty; choose another output_dir")
    output_dir.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    stage(1, f"{NUM_DEMONSTRATIONS} demonstrations of a scripted driver in {TASK}")
    first = FIRST_DEMONSTRATION + NUM_DEMONSTRATIONS * seed
    collection = Collection(TASK, NUM_DEMONSTRATIONS, seed=first)
    generate_demonstrations(output_dir / "demonstrations.hdf5", collection, progress=True)
    stage(2, "train Diffusion Policy and, beside it, Streaming Diffusion Policy and its student")
    training_began = time.perf_counter()
    train_side_by_side(output_dir, trainings(seed))
    training_s = time.perf_counter() - training_began
    stage(3, f"evaluate in {num_episodes} episodes and time")
    seeds = range(FIRST_EPISODE, FIRST_EPISODE + num_episodes)
    policies = [load_policy(output_dir, contender) for contender in CONTENDERS]
    rows = measure(policies, seeds)
    stage(4, "pictures and report")
    panels, film = paths(policies, seeds), record(policies[-1], seeds)
    everything_s = time.perf_counter() - began
    processor_s = sum(os.times()[:4])
    seconds = {"training": training_s, "everything": everything_s, "processor": processor_s}
    report = DemoReport(
        headline=headline(rows),
        summary=summarise(NUM_DEMONSTRATIONS, STEPS, num_episodes),
        rows=rows,
        facts=facts(TASK, seed, seconds, output_dir),
        commands=next_commands(output_dir, TASK),
        note=NOTE,
        explanation=EXPLANATION,
        panels=panels,
        pareto=pareto(rows),
        seconds=seconds,
        animation=film,
    )
    write_report(output_dir / "report.html", report)
    return report


def stage(number: int, text: str) -> None:
    """Announce a stage on stderr, where the progress bars are."""
    print(f"[{number}/4] {text}", file=sys.stderr)


def load_policy(output_dir: Path, contender: Contender) -> Policy:
    """A contender, ready to act."""
    return load_checkpoint(output_dir / contender.run).policy(contender.sampling)


def measure(policies: list[Policy], seeds: range) -> tuple[PolicyRow, ...]:
    """Evaluate every contender, and time them in turns."""
    results = [
        summary(evaluate(policy, make_task(TASK), seeds, len(seeds), progress=contender.name))
        for contender, policy in zip(CONTENDERS, policies, strict=True)
    ]
    timers = [ControlStepTimer(policy) for policy in policies]
    time_interleaved(timers, NUM_LATENCIES, "latency")
    return tuple(
        PolicyRow(
            name=contender.name,
            calls_per_step=contender.sampling["calls_per_step"],
            num_execute=NUM_EXECUTE,
            success=result["pc_success"] / 100,
            ci95=(result["pc_success_ci95"][0] / 100, result["pc_success_ci95"][1] / 100),
            seeds=list(seeds),
            latency_ms=timer.plan_ms,
        )
        for contender, result, timer in zip(CONTENDERS, results, timers, strict=True)
    )


def paths(policies: list[Policy], seeds: range) -> list[Panel]:
    """Paths of the driver and of every contender, from one start that is nearly in the middle."""
    task = make_task(TASK)
    start = middle_start(task, seeds)
    drawn: dict[str, Rollouts] = {
        "Demonstrations": demonstrate(SCRIPTED_EXPERTS[TASK].make, task, start, NUM_PATHS)
    }
    for contender, policy in zip(CONTENDERS, policies, strict=True):
        drawn[contender.name] = roll_out(policy, task, start, NUM_PATHS)
    return [
        Panel(name, f"{sum(one.reached)} of {NUM_PATHS} arrive. {comment}", one)
        for (name, one), comment in zip(drawn.items(), COMMENTS, strict=True)
    ]


def record(policy: Policy, seeds: range) -> Animation:
    """Record a few episodes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        evaluate(policy, make_task(TASK), seeds[:3], num_envs=1, video=Video(path, 3))
        data = path.read_bytes()
    return Animation(data, "video/mp4", f"{CONTENDERS[-1].name}: three episodes in real time")
