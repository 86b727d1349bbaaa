"""Latency of checkpoints on every engine, side by side."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...policies.checkpoint import Checkpoint, load_checkpoint
from ...policies.diffusion.policy import DiffusionPolicy
from ...policies.diffusion.real_time_chunking import RealTimeChunkingPolicy
from ...policies.diffusion.reverse import bare_forward
from ...policies.diffusion.streaming import StreamingDiffusionPolicy
from ...policies.planners.config import PlannerSampling
from ...policies.planners.planner import Planner
from ...policies.programs.engines.engine import installed_engines, make_engine
from ...policies.vla.decoding_config import METHODS
from ...policies.vla.policy import VlaPolicy
from ...policies.vla.session import block_logits
from ..config.training import BenchConfig
from .latency import ControlStepTimer, Frames, time_interleaved
from .provenance import measurement_header
from .recorded_frames import recorded_frames

VLA_ENGINE = "eager"
ADAPTIVE_EXIT = 0.05  # largest move between two iterates that counts as none, of a range of 2


@dataclass(frozen=True)
class Contender:
    """One row of the result: a checkpoint, how it is sampled, and what runs it."""

    name: str
    checkpoint: str
    engine: str
    policy: DiffusionPolicy | StreamingDiffusionPolicy | Planner | VlaPolicy
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
        if contenders:
            time_interleaved([one.timer for one in contenders], config.steps, label=engine)
        rows += [row_of(contender, num_threads) for contender in contenders]
    return {**header, "rows": rows}


def contenders_of(
    name: str, checkpoint: Checkpoint, engine: str, config: BenchConfig
) -> list[Contender]:
    """The rows of one checkpoint on one engine."""
    is_vla = checkpoint.kind == "vla"
    if is_vla and engine != VLA_ENGINE and not config.engines:
        return []
    # Random pictures and words would make the number of forwards meaningless.
    episodes = recorded_frames(checkpoint) if is_vla else []
    contenders = []
    for row_name, sampling in samplings(checkpoint, config.calls):
        if config.num_execute is not None:
            sampling["num_execute"] = config.num_execute
        policy = checkpoint.policy({**sampling, **config.sampling}, engine)
        label, timer = row_name, _timer(policy, engine, episodes)
        if not is_vla:
            label = row_name.replace("*", str(policy.program.num_calls))
        contenders.append(Contender(label, Path(name).name, engine, policy, timer))
    return contenders


def _timer(policy: Any, engine: str, episodes: Sequence[Frames]) -> ControlStepTimer:
    """Times a policy and, but for planners, what it is measured against."""
    if isinstance(policy, VlaPolicy):
        if policy.decoding.unverified == "hold":
            raise ValueError(
                "with sampling.unverified=hold plans differ in length, and their steps cannot be "
                "compared; leave it out"
            )
        forward = fused_forward_call(policy, episodes[0][0])
        return ControlStepTimer(policy, forward, episodes=episodes, calls=_forwards_of(policy))
    if isinstance(policy, RealTimeChunkingPolicy):
        raise ValueError(
            "plans are compared with forwards of the network, and real-time chunking needs its "
            "gradient too; leave sampling.prefix_guidance out"
        )
    forward = None if isinstance(policy, Planner) else forward_call(policy, engine)
    scale = 1 / float(policy.model.observation_normalizer.scale.mean())
    return ControlStepTimer(policy, forward, scale)


def samplings(checkpoint: Checkpoint, calls: Sequence[int]) -> list[tuple[str, dict[str, Any]]]:
    """Name and sampling choices of each row; ``*`` stands for the number of calls."""
    if checkpoint.kind == "vla":
        return _decoders(calls)
    if isinstance(checkpoint.sampling, PlannerSampling):
        name = checkpoint.kind.replace("_", "-") + "-*"
        return [(name, {"calls_per_step": num}) for num in calls] or [(name, {})]
    if checkpoint.kind == "sdp":
        return [
            ("sdp-*", {"calls_per_step": num or None, "update": "ddim"})
            for num in calls or (0, 2, 1)
        ]
    num_levels = checkpoint.model.config.num_levels
    rows = [] if calls else [("dp-ddpm-*", {"calls_per_step": 100, "update": "ddpm"})]
    rows += [
        ("dp-ddim-*", {"calls_per_step": num or None, "update": "ddim"})
        for num in calls or (10, 4, 2, 1)
    ]
    return [row for row in rows if (row[1]["calls_per_step"] or 0) <= num_levels]


def _decoders(calls: Sequence[int]) -> list[tuple[str, dict[str, Any]]]:
    """Rows of a vision-language policy: its decoders; `calls` are early exits, sigma.

    Guesses are the checkpoint's own choice, so ``sampling.guess=random`` starts all of them cold.
    """
    wait: dict[str, Any] = {"max_calls": 0, "max_move": -1.0, "unverified": "execute"}
    rows = [] if calls else [(f"vla-{method}", {"method": method, **wait}) for method in METHODS]
    early = {"method": "committed", **wait}
    rows += [(f"vla-exit-{num}", {**early, "max_calls": num}) for num in calls or (4, 2, 1)]
    return rows if calls else [*rows, ("vla-adaptive", {**early, "max_move": ADAPTIVE_EXIT})]


def forward_call(
    policy: DiffusionPolicy | StreamingDiffusionPolicy, engine: str
) -> Callable[[], object]:
    """One call of the network alone, by the same engine, on fixed input."""
    level = np.full(policy.model.config.horizon, policy.model.config.num_levels)
    return make_engine(engine, bare_forward(policy.model, level)).memory(1).run


def fused_forward_call(policy: VlaPolicy, frame: Mapping[str, np.ndarray]) -> Callable[[], object]:
    """One reading of pictures, prompt and a block of tokens: the least that a chunk can cost."""
    model = policy.model
    prompt, begin = model.prompt(frame), model.begin(1)
    num_guessed = model.action_tokenizer.num_tokens - 1
    tokens = torch.cat([begin, begin.new_zeros(1, num_guessed)], dim=1)

    @torch.inference_mode()
    def run() -> torch.Tensor:
        return block_logits(model.host, prompt, tokens)

    return run


def _forwards_of(policy: VlaPolicy) -> Callable[[], int]:
    """Tells the forwards of the newest plan."""

    def read() -> int:
        assert policy.decoded is not None
        return int(policy.decoded.num_calls[0])

    return read


def row_of(contender: Contender, threads: int) -> dict[str, Any]:
    """The numbers of one row, JSON-able."""
    timer, policy = contender.timer, contender.policy
    median = float(np.median(timer.plan_ms))
    if isinstance(policy, VlaPolicy):
        # Forwards differ in size, so all time beyond one fused forward counts as overhead.
        num_calls, num_compared, parity = float(np.mean(timer.num_calls)), 1, None
        tokens_per_second = 1000 * policy.model.action_tokenizer.num_tokens / median
    else:
        num_calls = num_compared = policy.program.num_calls
        parity, tokens_per_second = policy.parity, None
    return {
        "name": contender.name,
        "checkpoint": contender.checkpoint,
        "engine": contender.engine,
        "threads": threads,
        "num_calls": num_calls,
        "num_execute": policy.num_execute,
        "median_ms": median,
        "p99_ms": float(np.quantile(timer.plan_ms, 0.99)),
        "per_action_ms": float(np.median(timer.action_ms)),
        "forward_ms": float(np.median(timer.forward_ms)) if timer.forward else None,
        "overhead": timer.overhead(num_compared) if timer.forward else None,
        "control_rate_hz": 1000 / median,
        "actions_per_second": 1000 * policy.num_execute / median,
        "tokens_per_second": tokens_per_second,
        "parity_max_abs": parity,
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
        f"{'policy':24} {'checkpoint':16} {'engine':10} {'threads':>7} {'calls':>6} "
        f"{'median ms':>10} {'p99 ms':>9} {'/action ms':>10} {'actions/s':>9} {'tokens/s':>9} "
        f"{'overhead':>9} {'parity':>8} {'/ base':>8}"
    ]
    for row in rows:
        reference = base.get(_base_of(row))
        cells = (
            ("7.0f", row["actions_per_second"], 9),
            (".0f", row["tokens_per_second"], 9),
            (".0%", row["overhead"], 9),
            (".1e", row["parity_max_abs"], 8),
            (".2f", reference and row["median_ms"] / reference, 8),
        )
        texts = ["" if value is None else format(value, style) for style, value, _ in cells]
        padded = " ".join(text.rjust(width) for text, (*_, width) in zip(texts, cells, strict=True))
        lines.append(
            f"{row['name']:24} {row['checkpoint'][:16]:16} {row['engine']:10} "
            f"{row['threads']:7} {row['num_calls']:6.4g} {row['median_ms']:10.4f} "
            f"{row['p99_ms']:9.4f} {row['per_action_ms']:10.4f} {padded}"
        )
    return "\n".join(lines)


def _base_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """Rows with the same key are compared with the same row."""
    return row["name"].startswith("vla-"), row["engine"], row["threads"]


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
