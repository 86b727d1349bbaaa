"""From configuration to a checkpoint: what is trained, on what, and towards what."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...decoding import ActionSpec
from ...decoding.rolling import LevelMixture
from ...envs.registry import make_task
from ...policies.checkpoint import Checkpoint, load_checkpoint
from ...policies.diffusion.model import DiffusionModel, ModelConfig
from ...policies.normalizer import Normalizer
from ..config.training import DenoisingConfig, PlannerPolicyConfig, TrainConfig
from ..config.vla import VlaPolicyConfig
from ..data.episodes import Episodes
from ..data.formats.registry import read_episodes
from ..data.matching import check_matches_task
from ..data.plan_windows import PlanWindows
from ..data.recorded_spec import recorded_action_spec
from ..data.windows import Windows
from ..loop import Trainer
from ..objectives.denoising import DenoisingObjective
from ..objectives.guidance import GuidanceObjective, prepare_guidance
from ..objectives.segment import JumpObjective
from .planners import PlannerObjective, prepare_planner
from .vla import prepare_vla, stored_model

_LOG = logging.getLogger(__name__)
RECORDED = "recorded"


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
    task = None if config.task.name == RECORDED else make_task(config.task.name)
    episodes = read_episodes(config.task.dataset, config.task.keys or None, config.task.options)
    if task is None:
        return train_on(config, episodes, recorded_action_spec(episodes))
    check_matches_task(episodes, task)
    return train_on(config, episodes, task.action_spec)


def train_on(config: TrainConfig, episodes: Episodes, action_spec: ActionSpec) -> Path:
    """Run one training on demonstrations in memory; return the folder of its last checkpoint."""
    facts: dict[str, Any] = {}
    if isinstance(config.policy, VlaPolicyConfig):
        objective, windows, facts = prepare_vla(
            config.policy, config.distill.teacher, episodes, config.seed
        )
    elif isinstance(config.policy, PlannerPolicyConfig):
        objective, windows = _planner_objective(config, config.policy, episodes)
    else:
        objective, windows = _diffusion_objective(config, config.policy, episodes)

    def wrap(averaged: nn.Module, provenance: Mapping[str, Any]) -> Checkpoint:
        stored = averaged
        if isinstance(config.policy, VlaPolicyConfig):
            stored = stored_model(config.policy, averaged)
        common = {
            "task": config.task.name,
            "dataset": Path(config.task.dataset).name,
            "num_episodes": episodes.num_episodes,
            "seed": config.seed,
            "batch_size": config.batch_size,
            "optim": asdict(config.optim),
            "distill": _distillation(config),
        }
        sampling = config.policy.sampling
        return Checkpoint(
            config.policy.kind, stored, action_spec, sampling, {**common, **facts, **provenance}
        )

    return Trainer(config, objective, windows, wrap).run()


def _distillation(config: TrainConfig) -> dict[str, Any] | None:
    """What a checkpoint tells about its distillation; most settings are of streaming policies."""
    if not config.distill.teacher:
        return None
    settings = asdict(config.distill) if isinstance(config.policy, DenoisingConfig) else {}
    return {**settings, "teacher": Path(config.distill.teacher).name}


def _planner_objective(
    config: TrainConfig, policy: PlannerPolicyConfig, episodes: Episodes
) -> tuple[PlannerObjective | GuidanceObjective, PlanWindows]:
    """What a planner or its student is trained towards, and on."""
    if config.distill.teacher:
        return prepare_guidance(policy, config.distill.teacher, episodes)
    if policy.model.distilled_guidance is not None:
        raise ValueError(
            "policy.model.distilled_guidance is set by distillation; name a trained planner with "
            "distill.teacher, and the weight with policy.sampling.guidance"
        )
    model, windows = prepare_planner(policy.model, episodes, config.seed)
    objective = PlannerObjective(
        model, policy.condition_dropout, policy.drafter_share, policy.drafter_noise
    )
    return objective, windows


def _diffusion_objective(
    config: TrainConfig, policy: DenoisingConfig, episodes: Episodes
) -> tuple[DenoisingObjective | JumpObjective, Windows]:
    """What a diffusion policy or its student is trained towards, and on."""
    teacher = load_checkpoint(config.distill.teacher).model if config.distill.teacher else None
    if teacher is None:
        model = initial_model(policy, episodes, config.seed)
    else:
        model = student_of(teacher, config.seed)
    windows = make_windows(model.config, episodes)
    mixture = level_mixture(policy, model)
    objective = DenoisingObjective(model, mixture, policy.observation_noise)
    if teacher is None:
        return objective, windows
    if config.save_every % config.distill.refresh_every:
        raise ValueError(
            f"save_every {config.save_every} must be a multiple of distill.refresh_every "
            f"{config.distill.refresh_every}: buffers between refreshes are not saved"
        )
    student = JumpObjective(model, teacher, objective, windows, config.distill, config.seed)
    return student, windows


def initial_model(config: DenoisingConfig, episodes: Episodes, seed: int) -> DiffusionModel:
    """Build a model with random weights and the data's normalisation."""
    shapes = {key: value.shape[1:] for key, value in episodes.observations.items()}
    model = _seeded(config.model, shapes, episodes.actions.shape[1], seed)
    observations = list(episodes.observations.values())
    for normalizer, arrays, mode in (
        (model.observation_normalizer, observations, config.observation_normalization),
        (model.action_normalizer, [episodes.actions], config.action_normalization),
    ):
        # Key by key: side by side, memory-mapped arrays would be read into memory.
        fits = [Normalizer.fit(array.reshape(len(array), -1), mode) for array in arrays]
        states = [fit.state_dict() for fit in fits]
        normalizer.load_state_dict({key: torch.cat([s[key] for s in states]) for key in states[0]})
    return model


def student_of(teacher: DiffusionModel, seed: int) -> DiffusionModel:
    """Copy a model and make it listen to the size of its jumps, to which it is deaf at first."""
    config = replace(teacher.config, jump=True)
    student = _seeded(config, teacher.observation_shapes, teacher.action_dim, seed)
    # What the teacher lacks are the jump layers, which start at zero.
    student.load_state_dict({**student.state_dict(), **teacher.state_dict()})
    return student


def level_mixture(config: DenoisingConfig, model: DiffusionModel) -> LevelMixture:
    """How training of this policy draws noise levels."""
    sizes = model.config
    return LevelMixture(
        sizes.horizon,
        sizes.num_levels,
        model.delayed_ladders,
        config.chunkwise,
        config.independent,
    )


def make_windows(config: ModelConfig, episodes: Episodes) -> Windows:
    """Training windows of the model's size; logs how many episodes are shorter than one."""
    keys = tuple(episodes.observations)
    windows = Windows(episodes, keys, config.num_obs_steps, config.horizon)
    if windows.num_short:
        _LOG.warning(
            "%d of %d episodes are shorter than the horizon of %d steps; their windows repeat the "
            "first and last step",
            windows.num_short,
            episodes.num_episodes,
            config.horizon,
        )
    return windows


def _seeded(
    config: ModelConfig, shapes: Mapping[str, tuple[int, ...]], action_dim: int, seed: int
) -> DiffusionModel:
    """Initialise a model from `seed` without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DiffusionModel(config, shapes, action_dim)
