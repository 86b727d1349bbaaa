"""From configuration to a checkpoint: what is trained, on what, and towards what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..decoding import ActionSpec
from ..decoding.rolling import LevelMixture
from ..envs.registry import make_task
from ..policies.checkpoint import Checkpoint, load_checkpoint
from ..policies.model import DiffusionModel, ModelConfig
from ..policies.normalizer import Normalizer
from .config import PolicyConfig, TrainConfig
from .data.episodes import Episodes
from .data.formats import read_episodes
from .data.windows import Windows
from .distill import JumpObjective
from .loop import Trainer
from .objective import DenoisingObjective


def train(config: TrainConfig) -> Path:
    """Run one training; return the folder of its last checkpoint.

    Raises:
        ValueError: If configuration and data do not fit each other.
        FileExistsError: If the run folder holds a run that is not to be resumed.
    """
    run_dir = Path(config.output_dir)
    if (run_dir / "checkpoints").exists() and not config.resume:
        raise FileExistsError(
            f"{run_dir} already holds a run; continue it with resume=true, or choose another "
            "output_dir"
        )
    if not config.task.dataset:
        raise ValueError("task.dataset is not set; name the demonstrations with task.dataset=PATH")
    torch.set_num_threads(config.num_threads)
    task = make_task(config.task.name)
    episodes = read_episodes(config.task.dataset, config.task.keys or None)
    return train_on(config, episodes, task.action_spec)


def train_on(config: TrainConfig, episodes: Episodes, action_spec: ActionSpec) -> Path:
    """Run one training on demonstrations in memory; return the folder of its last checkpoint."""
    teacher = load_checkpoint(config.distill.teacher).model if config.distill.teacher else None
    if teacher is None:
        model = initial_model(config.policy, episodes, config.seed)
    else:
        model = student_of(teacher, config.seed)
    windows = make_windows(model.config, episodes)
    mixture = level_mixture(config.policy, model)
    objective = DenoisingObjective(model, mixture, config.policy.observation_noise)
    if teacher is not None:
        if config.save_every % config.distill.refresh_every:
            raise ValueError(
                f"save_every {config.save_every} must be a multiple of distill.refresh_every "
                f"{config.distill.refresh_every}: buffers between refreshes are not saved"
            )
        objective = JumpObjective(model, teacher, objective, windows, config.distill, config.seed)

    def wrap(averaged: DiffusionModel, provenance: Mapping[str, Any]) -> Checkpoint:
        distill = {**asdict(config.distill), "teacher": Path(config.distill.teacher).name}
        facts = {
            "task": config.task.name,
            "dataset": Path(config.task.dataset).name,
            "num_episodes": episodes.num_episodes,
            "seed": config.seed,
            "batch_size": config.batch_size,
            "optim": asdict(config.optim),
            "distill": distill if teacher is not None else None,
        }
        sampling = config.policy.sampling
        return Checkpoint(
            config.policy.kind, averaged, action_spec, sampling, {**facts, **provenance}
        )

    return Trainer(config, objective, windows, wrap).run()


def initial_model(config: PolicyConfig, episodes: Episodes, seed: int) -> DiffusionModel:
    """Build a model with random weights and the data's normalisation."""
    shapes = {key: value.shape[1:] for key, value in episodes.observations.items()}
    model = _seeded(config.model, shapes, episodes.actions.shape[1], seed)
    flat = [array.reshape(len(array), -1) for array in episodes.observations.values()]
    observations = np.concatenate(flat, axis=1)
    for normalizer, values, mode in (
        (model.observation_normalizer, observations, config.observation_normalization),
        (model.action_normalizer, episodes.actions, config.action_normalization),
    ):
        normalizer.load_state_dict(Normalizer.fit(values, mode).state_dict())
    return model


def student_of(teacher: DiffusionModel, seed: int) -> DiffusionModel:
    """Copy a model and make it listen to the size of its jumps, to which it is deaf at first."""
    config = replace(teacher.config, jump=True)
    student = _seeded(config, teacher.observation_shapes, teacher.action_dim, seed)
    # What the teacher lacks are the jump layers, which start at zero.
    student.load_state_dict({**student.state_dict(), **teacher.state_dict()})
    return student


def level_mixture(config: PolicyConfig, model: DiffusionModel) -> LevelMixture:
    """How training of this policy draws noise levels."""
    sizes = model.config
    return LevelMixture(
        sizes.horizon,
        sizes.num_levels,
        model.ladders,
        config.chunkwise,
        config.independent,
    )


def make_windows(config: ModelConfig, episodes: Episodes) -> Windows:
    """Training windows of the model's size."""
    return Windows(episodes, tuple(episodes.observations), config.num_obs_steps, config.horizon)


def _seeded(
    config: ModelConfig, shapes: Mapping[str, tuple[int, ...]], action_dim: int, seed: int
) -> DiffusionModel:
    """Initialise a model from `seed` without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DiffusionModel(config, shapes, action_dim)
