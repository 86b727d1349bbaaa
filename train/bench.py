"""Latency of checkpoints on every engine, side by side."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..policies.checkpoint import Checkpoint, load_checkpoint
from ..policies.diffusion import DiffusionPolicy
from ..policies.engines.engine import installed_engines, make_engine
from ..policies.planners.config import PlannerSampling
from ..policies.planners.planner import Planner
from ..policies.reverse import bare_forward
from ..policies.streaming_diffusion import StreamingDiffusionPolicy
from .config import BenchConfig
from .latency import ControlStepTimer, time_interleaved
from .provenance import measurement_header


@dataclass(frozen=True)
class Contender:
    """One row of the result: a checkpoint, how it is sampled, and what runs it."""

    name: str
    checkpoint: str
    engine: str
    policy: DiffusionPolicy | StreamingDiffusionPolicy | Planner
    timer: ControlStepTimer


def bench(names: Sequence[str], config: BenchConfig) -> dict[str, Any]:
    """Measure all checkpoints, engines and thread counts; return header and rows.

    Raises:
        ValueError: If nothing is left to measure, or an engine cannot run here.
    """
    if not config.threads or min(config.threads) < 1:
        raise ValueError(f"threads must be positive numbers, got {list(config.threads)}")
    header = measurement_header(shlex.join(["hotloop", *sys.argv[1:]]))
    num_threads, *others = config.threads
    if others:
        rows = [row for num in config.threads for row in _in_subprocess(names, config, num)]
        return {**header, "rows": rows}
    torch.set_num_threads(num_threads)
    loaded = [(name, load_checkpoint(name)) for name in names]
    rows = []
    for engine in config.engines or installed_engines():
        contenders = [
            contender
            for name, checkpoint in loaded
            for contender in contenders_of(name, checkpoint, engine, config)
        ]
        time_interleaved([one.timer for one in contenders], config.steps, label=engine)
        rows += [row_of(contender, num_threads) for contender in contenders]
    return {**header, "rows": rows}


def contenders_of(
    name: str, checkpoint: Checkpoint, engine: str, config: BenchConfig
) -> list[Contender]:
    """The rows of one checkpoint on one engine."""
    contenders = []
    for row_name, sampling in samplings(checkpoint, config.calls):
        if config.num_execute is not None:
            sampling["num_execute"] = config.num_execute
        policy = checkpoint.policy({**sampling, **config.sampling}, engine)
        forward = None if isinstance(policy, Planner) else forward_call(policy, engine)
        scale = 1 / float(checkpoint.model.observation_normalizer.scale.mean())
        timer = ControlStepTimer(policy, forward, scale)
        label = row_name.replace("*", str(policy.program.num_network_calls))
        contenders.append(Contender(label, Path(name).name, engine, policy, timer))
    return contenders


def samplings(checkpoint: Checkpoint, calls: Sequence[int]) -> list[tuple[str, dict[str, Any]]]:
    """Name and sampling choices of each row; ``*`` stands for the number of calls."""
    if isinstance(checkpoint.sampling, PlannerSampling):
        name = checkpoint.kind.replace("_", "-") + "-*"
        return [(name, {"refine_steps": num}) for num in calls] or [(name, {})]
    if checkpoint.kind == "sdp":
        return [("sdp-*", {"calls_per_step": num, "update": "ddim"}) for num in calls or (0, 2, 1)]
    num_levels = checkpoint.model.config.num_levels
    rows = [] if calls else [("dp-ddpm-*", {"calls_per_step": 100, "update": "ddpm"})]
    rows += [
        ("dp-ddim-*", {"calls_per_step": num, "update": "ddim"}) for num in calls or (10, 4, 2, 1)
    ]
    return [row for row in rows if row[1]["calls_per_step"] <= num_levels]


def forward_call(
    policy: DiffusionPolicy | StreamingDiffusionPolicy, engine: str
) -> Callable[[], object]:
    """One call of the network alone, by the same engine, on fixed input."""
    level = np.full(policy.model.config.horizon, policy.model.config.num_levels)
    return make_engine(engine, bare_forward(policy.model, level)).memory(1).run


def row_of(contender: Contender, threads: int) -> dict[str, Any]:
    """The numbers of one row, JSON-able."""
    timer, policy = contender.timer, contender.policy
    median = float(np.median(timer.plan_ms))
    return {
        "name": contender.name,
        "checkpoint": contender.checkpoint,
        "engine": contender.engine,
        "threads": threads,
        "num_calls": policy.program.num_network_calls,
        "num_execute": policy.num_execute,
        "median_ms": median,
        "p99_ms": float(np.quantile(timer.plan_ms, 0.99)),
        "per_action_ms": float(np.median(timer.action_ms)),
        "forward_ms": float(np.median(timer.forward_ms)) if timer.forward else None,
        "overhead": timer.overhead(policy.program.num_network_calls) if timer.forward else None,
        "control_rate_hz": 1000 / median,
        "parity_max_abs": policy.parity,
        "n": len(timer.plan_ms),
    }


def format_rows(rows: Sequence[dict[str, Any]]) -> str:
    """A table, with times relative to one-call streaming on the same engine and threads."""
    base = {(r["engine"], r["threads"]): r["median_ms"] for r in rows if r["name"] == "sdp-1"}
    lines = [
        f"{'policy':24} {'engine':10} {'threads':>7} {'median ms':>10} {'p99 ms':>9} "
        f"{'/action ms':>10} {'overhead':>9} {'parity':>8} {'/ sdp-1':>8}"
    ]
    for row in rows:
        reference = base.get((row["engine"], row["threads"]))
        ratio = f"{row['median_ms'] / reference:8.1f}" if reference else " " * 8
        overhead = " " * 9 if row["overhead"] is None else f"{row['overhead']:9.0%}"
        lines.append(
            f"{row['name']:24} {row['engine']:10} {row['threads']:7} {row['median_ms']:10.4f} "
            f"{row['p99_ms']:9.4f} {row['per_action_ms']:10.4f} {overhead} "
            f"{row['parity_max_abs']:8.1e} {ratio}"
        )
    return "\n".join(lines)


def _in_subprocess(names: Sequence[str], config: BenchConfig, threads: int) -> list[dict[str, Any]]:
    """Measure with one thread count in a fresh process, as runtimes fix theirs when loaded."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "rows.json"
        overrides = [
            f"threads=[{threads}]",
            f"steps={config.steps}",
            f"calls=[{','.join(map(str, config.calls))}]",
            f"engines=[{','.join(config.engines)}]",
            f"output={output}",
        ]
        if config.num_execute is not None:
            overrides.append(f"num_execute={config.num_execute}")
        overrides += [f"sampling.{name}={value}" for name, value in config.sampling.items()]
        command = [sys.executable, "-m", "hotloop.train.cli", "bench", *names, *overrides]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        result = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
        if result.returncode:
            raise ValueError(f"the measurement with {threads} threads failed, see above")
        return json.loads(output.read_text())["rows"]
