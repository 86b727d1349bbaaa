"""What `hotloop bench` times: the rows of each checkpoint, on every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from ..policies.checkpoint import Checkpoint, load_checkpoint
from ..policies.diffusion import DiffusionPolicy
from ..policies.engines.engine import Engine, make_engine
from ..policies.program import ReverseProgram
from ..policies.streaming_diffusion import StreamingDiffusionPolicy
from .latency import ControlStepTimer, time_interleaved

# The DDPM row takes as many calls as this, as published, where the model has that many levels.
DDPM_CALLS = 100
ALL_CALLS = 0
DEFAULT_CALLS = {"dp": (ALL_CALLS, 10, 4), "sdp": (ALL_CALLS, 2, 1)}


class Variant(NamedTuple):
    """A way to sample a checkpoint.

    Attributes:
        name: Kind, sampler and number of network calls per plan, e.g. ``"dp-ddim-10"``.
        num_calls: Network calls per plan.
        update: ``"ddim"`` or ``"ddpm"``.
    """

    name: str
    num_calls: int
    update: str


@dataclass(frozen=True)
class Case:
    """One row while it is being timed.

    Attributes:
        checkpoint: As the user named it.
        engine: Engine name.
        variant: How the checkpoint is sampled.
        policy: The policy that does so.
        timer: What has been measured of it.
    """

    checkpoint: str
    engine: str
    variant: Variant
    policy: DiffusionPolicy | StreamingDiffusionPolicy
    timer: ControlStepTimer


def bench(
    checkpoints: Sequence[str],
    engines: Sequence[str],
    calls: Sequence[int],
    num_steps: int,
    num_threads: int,
) -> list[dict[str, Any]]:
    """Time every variant of every checkpoint on every engine, in turns.

    Args:
        checkpoints: Names or paths.
        engines: Engine names.
        calls: Network calls per plan, 0 for all; empty for the usual ones of each kind.
        num_steps: Planning control steps per row, fewer for slow rows.
        num_threads: Threads of every engine; a process can time one number only.

    Returns:
        One JSON-able row per checkpoint, engine and variant; durations in ms.

    Raises:
        ValueError: If a checkpoint has no variant with one of `calls`.
    """
    torch.set_num_threads(num_threads)
    cases = [
        case for name in checkpoints for engine in engines for case in _cases(name, engine, calls)
    ]
    time_interleaved([case.timer for case in cases], num_steps, f"time, {num_threads} threads")
    return [{**_row(case), "threads": num_threads} for case in cases]


def variants(checkpoint: Checkpoint, calls: Sequence[int]) -> list[Variant]:
    """Return the ways to sample `checkpoint` with these numbers of calls, 0 for all."""
    calls = calls or DEFAULT_CALLS[checkpoint.kind]
    num_levels = checkpoint.model.config.num_levels
    if checkpoint.kind == "dp":
        ddpm = min(DDPM_CALLS, num_levels)
        found = [
            Variant(f"dp-ddim-{num}", num, "ddim") if num else Variant(f"dp-ddpm-{ddpm}", ddpm, "ddpm")
            for num in calls
            if num <= num_levels
        ]
    else:
        most = checkpoint.model.ladder(checkpoint.sampling.num_execute).rung
        numbers = [num or most for num in calls if num <= most]
        found = [Variant(f"sdp-{num}", num, checkpoint.sampling.update) for num in numbers]
    return list(dict.fromkeys(found))


def _cases(name: str, engine: str, calls: Sequence[int]) -> Iterator[Case]:
    checkpoint = load_checkpoint(name)
    chosen = variants(checkpoint, calls)
    if not chosen:
        raise ValueError(f"{name}: calls={','.join(map(str, calls))} exceeds the levels it has")
    bare: Callable[[], object] | None = None
    for variant in chosen:
        sampling = {"calls_per_step": variant.num_calls, "update": variant.update}
        policy = checkpoint.policy(sampling, engine)
        bare = bare or _bare_forward(policy.program, engine)
        yield Case(name, engine, variant, policy, ControlStepTimer(policy, bare))


def _bare_forward(program: ReverseProgram, engine_name: str) -> Callable[[], object]:
    """Return one network call on one row by an engine of its own."""
    model, generator = program.model, np.random.default_rng(0)
    config, size = model.config, len(model.observation_normalizer.scale)
    observation = generator.standard_normal((1, config.num_obs_steps, size), np.float32)
    x = generator.standard_normal((1, config.horizon, model.action_dim), np.float32)
    engine: Engine = make_engine(engine_name, program.bare_forward())
    return lambda: engine(observation, x)


def _row(case: Case) -> dict[str, Any]:
    timer, num_calls = case.timer, case.variant.num_calls
    median = float(np.median(timer.plan_ms))
    return {
        "name": case.variant.name,
        "checkpoint": case.checkpoint,
        "engine": case.engine,
        "num_calls": num_calls,
        "num_execute": case.policy.num_execute,
        "num_steps": len(timer.plan_ms),
        "median_ms": median,
        "p99_ms": float(np.quantile(timer.plan_ms, 0.99)),
        "per_action_ms": float(np.median(timer.action_ms)),
        "forward_ms": float(np.median(timer.forward_ms)),
        "overhead": timer.overhead(num_calls),
        "control_rate_hz": 1e3 / median,
        "parity_max_abs": case.policy.parity,
    }
