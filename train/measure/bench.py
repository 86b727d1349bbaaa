"""Latency of checkpoints on every engine, side by side."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...decoding.plumbing.devices import CPU
from ...decoding.plumbing.processes import module_command
from ...policies.checkpoint import Checkpoint
from ...policies.place import find_device
from ...policies.programs.engines.engine import engine_name, engines_of
from ..config.evaluation import BenchConfig
from ..config.lerobot import ANY_PERIOD, load, refuse_unread
from ..config.sampling import as_overrides, ran_on, sampled_policy
from ..families import family_of
from ..families.family import Costs
from .latency import ControlStepTimer, time_interleaved
from .provenance import measurement_header


@dataclass(frozen=True)
class Timed:
    """One row of the result: a checkpoint, how it is sampled, and what is asked to run it."""

    name: str
    checkpoint: Checkpoint
    source: str
    asked: str
    policy: Any
    timer: ControlStepTimer

    @property
    def costs(self) -> Costs:
        """What its plans cost beyond time."""
        return family_of(self.checkpoint.kind).costs(self.policy, self.timer)


def bench(names: Sequence[str], config: BenchConfig) -> dict[str, Any]:
    """Measure all checkpoints, engines and thread counts; return header and rows.

    Raises:
        ValueError: If nothing is left to measure, or an engine cannot run here.
    """
    header = measurement_header(shlex.join(["hotloop", *sys.argv[1:]]))
    num_threads, *others = config.threads
    if others:
        rows = [row for num in config.threads for row in _in_subprocess(names, config, num)]
        return {**header, "rows": rows}
    find_device(config.device)  # before anything is loaded
    torch.set_num_threads(num_threads)
    refuse_unread(names, config.lerobot)
    loaded = [(name, load(name, config.lerobot, ANY_PERIOD).to(config.device)) for name in names]
    rows = []
    chosen = [engine_name(one, config.precision) for one in config.engines]
    for engine in chosen or engines_of(config.precision, config.device):
        timed = [
            one
            for name, checkpoint in loaded
            for one in timed_rows(name, checkpoint, engine, config)
        ]
        if timed:
            time_interleaved([one.timer for one in timed], config.steps, label=engine)
        rows += [row_of(one, num_threads, config.device) for one in timed]
    return {**header, "rows": rows}


def timed_rows(name: str, checkpoint: Checkpoint, engine: str, config: BenchConfig) -> list[Timed]:
    """The rows of one checkpoint on one engine; none if its family does not run there.

    Raises:
        ValueError: If no family times checkpoints of this kind, or a sampling choice is unknown.
    """
    family = family_of(checkpoint.kind)
    elsewhere = not config.engines or any(family.runs_on(one) for one in config.engines)
    if not family.runs_on(engine) and elsewhere:
        return []
    episodes, rows = family.frames(checkpoint), []
    for row in family.rows(checkpoint, config.calls):
        policy = sampled_policy(checkpoint, {**row.sampling, **config.sampling}, engine)
        timer = family.timer(policy, ran_on(policy, engine), episodes)
        label = row.name
        if "*" in label:
            label = label.replace("*", f"{family.costs(policy, timer).num_calls:g}")
        rows.append(Timed(label, checkpoint, Path(name).name, engine, policy, timer))
    return rows


def row_of(timed: Timed, threads: int, device: str = CPU) -> dict[str, Any]:
    """The numbers of one row, JSON-able."""
    timer, policy, costs = timed.timer, timed.policy, timed.costs
    median = float(np.median(timer.plan_ms))
    per_second = None if costs.num_tokens is None else 1000 * costs.num_tokens / median
    return {
        "name": timed.name,
        "checkpoint": timed.source,
        "engine": ran_on(policy, timed.asked),
        "engine_asked": timed.asked,
        "device": device,
        "threads": threads,
        "num_calls": costs.num_calls,
        "num_execute": policy.num_execute,
        "median_ms": median,
        "p99_ms": float(np.quantile(timer.plan_ms, 0.99)),
        "per_action_ms": float(np.median(timer.action_ms)),
        "forward_ms": float(np.median(timer.forward_ms)) if timer.forward else None,
        "overhead": timer.overhead(costs.num_compared) if timer.forward else None,
        "encoder_ms": float(np.median(timer.encode_ms)) if timer.encode else None,
        "encoder_share": timer.encoder_share() if timer.encode else None,
        "control_rate_hz": 1000 / median,
        "actions_per_second": 1000 * policy.num_execute / median,
        "tokens_per_second": per_second,
        "parity_max_abs": costs.parity,
        "equal_tokens": costs.equal_tokens,
        "n": len(timer.plan_ms),
    }


def format_rows(rows: Sequence[dict[str, Any]]) -> str:
    """A table, with speeds relative to what a kind of policy is compared with.

    That is one-call streaming for diffusion policies and planners, and the first checkpoint's
    greedy decoding for vision-language policies, on the same engine and threads.
    """
    base: dict[tuple[Any, ...], float] = {}
    for row in rows:
        if row["name"] in ("sdp-1", "vla-greedy"):
            base.setdefault(_base_of(row), row["median_ms"])
    lines = [
        f"{'policy':24} {'checkpoint':16} {'engine':15} {'threads':>7} {'calls':>6} "
        f"{'median ms':>10} {'p99 ms':>9} {'/action ms':>10} {'actions/s':>9} {'tokens/s':>9} "
        f"{'encoder':>8} {'overhead':>9} {'parity':>8} {'equal':>7} {'/ base':>8}"
    ]
    for row in rows:
        reference = base.get(_base_of(row))
        cells = (
            ("7.0f", row["actions_per_second"], 9),
            (".0f", row["tokens_per_second"], 9),
            (".0%", row["encoder_share"], 8),
            (".0%", row["overhead"], 9),
            (".1e", row["parity_max_abs"], 8),
            (".1%", row["equal_tokens"], 7),
            (".2f", reference and row["median_ms"] / reference, 8),
        )
        texts = ["" if value is None else format(value, style) for style, value, _ in cells]
        padded = " ".join(text.rjust(width) for text, (*_, width) in zip(texts, cells, strict=True))
        lines.append(
            f"{row['name']:24} {row['checkpoint'][:16]:16} {_engine(row):15} "
            f"{row['threads']:7} {row['num_calls']:6.4g} {row['median_ms']:10.4f} "
            f"{row['p99_ms']:9.4f} {row['per_action_ms']:10.4f} {padded}"
        )
    return "\n".join(lines)


def _base_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """Rows with the same key are compared with the same row."""
    return row["name"].startswith("vla-"), row["engine_asked"], row["threads"]


def _engine(row: dict[str, Any]) -> str:
    """What ran a row, and that it was not named, if it was not."""
    asked, engine = row["engine_asked"], row["engine"]
    return engine if asked == engine else f"{asked}: {engine}"


def _in_subprocess(names: Sequence[str], config: BenchConfig, threads: int) -> list[dict[str, Any]]:
    """Measure with one thread count in a fresh process, as runtimes fix theirs when loaded."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "rows.json"
        overrides = [
            f"threads=[{threads}]",
            f"steps={config.steps}",
            f"calls=[{','.join(map(str, config.calls))}]",
            f"engines=[{','.join(config.engines)}]",
            f"device={config.device}",
            f"precision={config.precision}",
            f"output={output}",
        ]
        overrides += as_overrides(config.sampling, "sampling")
        overrides += as_overrides(asdict(config.lerobot), "lerobot")
        command = module_command("hotloop.train.cli", "bench", *names, *overrides)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        result = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
        if result.returncode:
            raise ValueError(f"the measurement with {threads} threads failed, see above")
        return json.loads(output.read_text())["rows"]
