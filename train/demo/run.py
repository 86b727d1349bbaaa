"""The whole way once, on any machine: demonstrations, training, evaluation, latency, report."""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...envs.registry import make_task
from ...envs.rollout import Evaluation, evaluate
from ...envs.statistics import summary
from ...envs.video import Video
from ...policies.checkpoint import load_checkpoint
from ..config.compose import compose
from ..config.training import TrainConfig
from ..demonstrations.generate import Collection, generate_demonstrations
from ..measure.latency import time_control_steps
from ..measure.provenance import processor_name
from ..training import train_on
from .report import Animation, DemoReport, PolicyRow, write_report

TASK = "pointmaze-umaze"
NUM_DEMONSTRATIONS = 200
TRAIN_STEPS = 4000


@dataclass(frozen=True)
class Contender:
    """A row of the report: a trained policy and how it is sampled."""

    name: str
    kind: str
    sampling: Mapping[str, Any]


CONTENDERS = (
    Contender("Diffusion Policy, 100 calls", "dp", {"calls_per_step": 100, "update": "ddpm"}),
    Contender("Diffusion Policy, 10 calls", "dp", {"calls_per_step": 10}),
    Contender("Diffusion Policy, 1 call", "dp", {"calls_per_step": 1}),
    Contender("Streaming Diffusion Policy, 1 call", "sdp", {"calls_per_step": 1}),
)


def run_demo(output_dir: Path, seed: int, num_episodes: int) -> DemoReport:
    """Run every stage, write ``report.html`` and ``report.json`` to `output_dir`.

    Args:
        output_dir: New or empty folder.
        seed: Seed of the demonstrations and of both trainings.
        num_episodes: Evaluation episodes per row of the table.
    """
    if output_dir.exists() and any(output_dir.iterdir()):
        raise FileExistsError(f"{output_dir} is not empty; choose another output_dir")
    output_dir.mkdir(parents=True, exist_ok=True)
    data = output_dir / "demonstrations.hdf5"
    stage(1, f"{NUM_DEMONSTRATIONS} demonstrations of a scripted controller in {TASK}")
    collection = Collection(TASK, NUM_DEMONSTRATIONS, seed=seed, action_noise=0.3)
    episodes = generate_demonstrations(data, collection, progress=True)
    spec = make_task(TASK).action_spec
    for number, kind in enumerate(("dp", "sdp"), start=2):
        stage(number, f"train {kind} for {TRAIN_STEPS} steps")
        overrides = [f"policy={kind}", f"task={TASK}", f"steps={TRAIN_STEPS}", f"seed={seed}"]
        config = compose("train", [*overrides, "policy.model.network.width=256"], TrainConfig)
        config = replace(config, output_dir=str(output_dir / kind))
        config = replace(config, task=replace(config.task, dataset=str(data)))
        train_on(config, episodes, spec)
    stage(4, "evaluate and time")
    seeds = range(100_000, 100_000 + num_episodes)
    rows = tuple(measure(contender, output_dir, seeds) for contender in CONTENDERS)
    report = DemoReport(
        headline=headline(rows),
        summary=(
            f"{NUM_DEMONSTRATIONS} demonstrations of a scripted controller in {TASK}, two policies "
            f"with the same network trained for {TRAIN_STEPS} steps each, {num_episodes} episodes "
            "per row, all on this machine."
        ),
        rows=rows,
        facts=facts(output_dir, seed),
        commands=next_commands(output_dir),
        animation=film(output_dir, seeds),
    )
    write_report(output_dir / "report.html", report)
    return report


def stage(number: int, text: str) -> None:
    """Announce a stage on stderr, where the progress bars are."""
    print(f"[{number}/4] {text}", file=sys.stderr)


def measure(contender: Contender, output_dir: Path, seeds: range) -> PolicyRow:
    """Evaluate and time one contender."""
    policy = load_checkpoint(output_dir / contender.kind).policy(contender.sampling)
    evaluation: Evaluation = evaluate(
        policy, make_task(TASK), seeds, num_envs=len(seeds), progress=contender.name
    )
    result = summary(evaluation)
    low, high = result["pc_success_ci95"]
    return PolicyRow(
        name=contender.name,
        calls_per_step=contender.sampling["calls_per_step"],
        num_execute=policy.num_execute,
        success=result["pc_success"] / 100,
        ci95=(low / 100, high / 100),
        seeds=list(seeds),
        latency_ms=time_control_steps(policy),
    )


def film(output_dir: Path, seeds: range) -> Animation:
    """Record a few episodes of the streaming policy."""
    policy = load_checkpoint(output_dir / "sdp").policy({"calls_per_step": 1})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        evaluate(policy, make_task(TASK), seeds[:3], num_envs=1, video=Video(path, 3))
        data = path.read_bytes()
    return Animation(data, "video/mp4", "Streaming Diffusion Policy, one network call per plan")


def headline(rows: Sequence[PolicyRow]) -> str:
    """The last row against the first, in one sentence."""
    first, last = (row.numbers() for row in (rows[0], rows[-1]))
    return (
        f"{last['name']}: {last['success']:.0%} success at {last['median_ms']:.2f} ms per plan, "
        f"{first['median_ms'] / last['median_ms']:.0f} times faster than {first['name']}"
    )


def facts(output_dir: Path, seed: int) -> dict[str, str]:
    """What the numbers were measured on."""
    return {
        "Environment": TASK,
        "Training seed": str(seed),
        "Processor": processor_name(),
        "Threads": str(torch.get_num_threads()),
        "PyTorch": torch.__version__,
        "Python": platform.python_version(),
        "Folder": str(output_dir),
    }


def next_commands(output_dir: Path) -> dict[str, str]:
    """What a newcomer may type next."""
    return {
        f"hotloop eval {output_dir}/sdp sampling.calls_per_step=1": "Evaluate it again",
        f"hotloop bench {output_dir}/dp {output_dir}/sdp": "Time both on every engine",
        f"hotloop data inspect {output_dir}/demonstrations.hdf5": "Look at the demonstrations",
        "hotloop eval pusht-sdp": "Score the policy that comes with hotloop",
    }
