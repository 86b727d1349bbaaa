"""Toy trainings: real runs of hotloop on toy data, and samples of what they trained."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hotloop.decoding import ActionSpec, Observation
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.diffusion.config import DiffusionSampling, ModelConfig, StreamingSampling
from hotloop.policies.networks.config import NetworkConfig
from hotloop.train.config.policies import (
    DiffusionPolicyConfig,
    PolicyConfig,
)
from hotloop.train.config.training import OptimConfig, TrainablePolicy, TrainConfig
from hotloop.train.data.episodes import Episodes
from hotloop.train.distillation.methods import settings_type
from hotloop.train.training import train_on

NUM_LEVELS, NUM_EXECUTE = 100, 4


@dataclass(frozen=True)
class Trained:
    """A run that is finished.

    Attributes:
        checkpoint: Folder of its last checkpoint.
        cpu_s: Processor time that it took [s].
    """

    checkpoint: Path
    cpu_s: float


def teacher_config(steps: int, seed: int, output_dir: Path) -> TrainConfig:
    """A Diffusion Policy whose window is one action, which is a whole motion."""
    network = NetworkConfig("mlp", width=192, depth=3)
    sizes = ModelConfig(horizon=1, num_obs_steps=1, num_levels=NUM_LEVELS, network=network)
    policy = DiffusionPolicyConfig(
        model=sizes,
        action_normalization="identity",
        observation_normalization="z_score",
        sampling=DiffusionSampling(num_execute=1),
    )
    return _run_config(policy, steps, seed, output_dir)


def streaming_config(steps: int, seed: int, output_dir: Path) -> TrainConfig:
    """A Streaming Diffusion Policy of four chunks of four actions."""
    network = NetworkConfig("mlp", width=192, depth=3)
    ladders = (f"{NUM_EXECUTE}x4",)
    policy = PolicyConfig(
        model=ModelConfig(4 * NUM_EXECUTE, 1, 40, ladders, network=network),
        chunkwise=0.8,
        action_normalization="identity",
        observation_normalization="z_score",
        sampling=StreamingSampling(num_execute=NUM_EXECUTE),
    )
    return _run_config(policy, steps, seed, output_dir)


def _run_config(policy: TrainablePolicy, steps: int, seed: int, output_dir: Path) -> TrainConfig:
    return TrainConfig(
        policy=policy,
        optim=OptimConfig(lr=1e-3, warmup_steps=200),
        output_dir=str(output_dir),
        seed=seed,
        steps=steps,
        batch_size=256,
        log_every=500,
        save_every=steps,
    )


def student_config(
    teacher: TrainConfig, checkpoint: Path, method: str, output_dir: Path, **options: Any
) -> TrainConfig:
    """A student of a teacher's run; `options` are those of the method, and `steps`."""
    steps = options.pop("steps", teacher.steps)
    distill = settings_type(teacher.policy.kind, method)(str(checkpoint), method=method, **options)
    return replace(
        teacher, distill=distill, output_dir=str(output_dir), steps=steps, save_every=steps
    )


def run(config: TrainConfig, episodes: Episodes, spec: ActionSpec) -> Trained:
    """Train, and measure the processor time; a run that is there already is not repeated."""
    folder = Path(config.output_dir)
    timed = folder / "cpu_s.txt"
    if not timed.exists():
        began = time.process_time()
        train_on(config, episodes, spec)
        timed.write_text(f"{time.process_time() - began:.1f}\n")
    return Trained(folder / "checkpoints" / "last", float(timed.read_text()))


def sample(
    checkpoint: Path, key: str, observed: np.ndarray, sampling: Mapping[str, Any], seed: int = 0
) -> np.ndarray:
    """First action of one plan for each observation (R, O), shape (R, D)."""
    policy = load_checkpoint(checkpoint).policy(sampling)
    rows = np.arange(len(observed))
    policy.reset(rows + 1_000_000 * seed)
    step = np.zeros(len(observed), np.int64)
    return policy.plan(Observation({key: observed[:, None]}, step, rows), step).actions[:, 0]
