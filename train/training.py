"""From a configuration to a checkpoint: read, prepare, optimise, store."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..decoding import ActionSpec
from ..envs.registry import make_task
from ..policies.checkpoint import Checkpoint
from .config.distill import DistillConfig
from .config.training import RECORDED, TrainConfig
from .data.cameras import read_for_policy
from .data.episodes import Episodes
from .data.matching import check_actions, check_matches_task
from .data.recorded_spec import recorded_action_spec
from .distillation.methods import default_method, method_of, settings_type
from .distillation.rollouts import check_source, rollouts
from .distillation.student import load_teacher
from .families import family_of
from .loop import Trainer
from .processes import check_place, is_main_process, take_device, take_place
from .resume import check_output, check_same_run, last_checkpoint, settings_of
from .state import steps_done

_LOG = logging.getLogger(__name__)


def train(config: TrainConfig) -> Path:
    """Train a policy on demonstrations.

    Args:
        config: The run; ``task.dataset`` names the demonstrations.

    Returns:
        Folder of its last checkpoint, for `load_checkpoint`.

    Raises:
        ValueError: If settings, data and teacher do not fit each other, or a run that is to be
            resumed was begun with other settings.
        FileExistsError: If the run folder holds a run that is not to be resumed.
        FloatingPointError: If the loss is not finite; the last checkpoint is kept.
    """
    check_output(config)
    check_place(config.device)
    episodes, spec = demonstrations(config)
    return train_on(config, episodes, spec)


def demonstrations(config: TrainConfig) -> tuple[Episodes, ActionSpec]:
    """What a run learns from, and names, bounds and period of its actions.

    Raises:
        ValueError: If there is none, or it does not fit the policy or the task.
        OSError: If it is not there.
    """
    torch.set_num_threads(config.num_threads)
    if not config.task.dataset:
        return _of_the_teacher(config)
    task = None if config.task.name == RECORDED else make_task(config.task.name)
    family = family_of(config.policy.kind)
    episodes = read_for_policy(
        config.task.dataset,
        config.task.keys or None,
        config.task.options,
        task=task,
        cameras=family.cameras(config),
        instruction=family.instruction,
        check=partial(family.check_pictures, config),
    )
    if task is None:
        return episodes, recorded_action_spec(episodes)
    check_matches_task(episodes, task, check=config.task.check)
    for fault in episodes.faults if is_main_process() else ():
        _LOG.warning("%s: %s", config.task.dataset, fault)
    if config.task.check:
        check_actions(episodes, task.action_spec)
    return episodes, task.action_spec


def _of_the_teacher(config: TrainConfig) -> tuple[Episodes, ActionSpec]:
    """Where no demonstrations are named: what the teacher does, if there is one that can do it."""
    method = (
        method_of(config.policy.kind, config.distill.method) if config.distill.teacher else None
    )
    if method is None:
        raise ValueError("task.dataset is not set; name the demonstrations with task.dataset=PATH")
    teacher = load_teacher(config.distill.teacher)
    method.check_student(config, teacher)
    check_source(config, teacher, method)
    return rollouts(config), make_task(config.task.name).action_spec


def distill(teacher: str | Path, config: TrainConfig) -> Path:
    """Distil a trained policy into one of fewer network calls.

    Args:
        teacher: Checkpoint, by name or path.
        config: The student's run, see `train`; `config.distill` says how, as far as its family has
            a choice.

    Returns:
        Folder of the student's last checkpoint.

    Raises:
        ValueError: As `train`, or if the teacher cannot be distilled into this kind of policy.
    """
    return train(replace(config, distill=replace(config.distill, teacher=str(teacher))))


def train_on(config: TrainConfig, episodes: Episodes, action_spec: ActionSpec) -> Path:
    """Train a policy on demonstrations in memory, see `train`.

    Args:
        config: The run; of its task only the name is used.
        episodes: Demonstrations.
        action_spec: Names, bounds and period of their actions.
    """
    check_output(config)
    take_place(config.num_threads, config.precision)
    take_device(config.device)
    family = family_of(config.policy.kind)
    config = replace(config, distill=_distillation(config.distill, config.policy.kind))
    settings, folder = settings_of(config, episodes), Path(config.output_dir)
    last = last_checkpoint(folder) if config.resume else None
    if config.resume:
        num_done = 0 if last is None else steps_done(last)
        check_same_run(folder, settings, num_done)
        if last is not None and num_done == config.steps:
            return last  # before anything is prepared, which may take long
    training = family.prepare(config, episodes)

    def wrap(averaged: nn.Module, provenance: Mapping[str, Any]) -> Checkpoint:
        facts = {} if training.facts is None else asdict(training.facts)
        told = {**_provenance(config, episodes, settings), **facts, **provenance}
        policy = config.policy
        stored = training.store(averaged)
        sampling = training.sampling or policy.sampling
        return Checkpoint(policy.kind, stored, action_spec, sampling, told)

    trainer = Trainer(config, training.objective, training.samples, wrap, last)
    return trainer.run(settings)


def _distillation(given: DistillConfig, kind: str) -> DistillConfig:
    """The settings of a distillation as its method has them.

    Raises:
        ValueError: If they are another method's, or the method is none for this kind of policy.
    """
    wanted, default = settings_type(kind, given.method), default_method(kind)
    if type(given) is wanted:
        return replace(given, method=given.method or default)
    if type(given) is not DistillConfig:
        raise ValueError(
            f"distill must be a {wanted.__name__} for distill.method={given.method or default}, "
            f"got a {type(given).__name__}"
        )
    return wanted(given.teacher, method=given.method or default)


def _provenance(
    config: TrainConfig, episodes: Episodes, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What every checkpoint tells of its training."""
    teacher = config.distill.teacher
    return {
        "hotloop": version("hotloop"),
        "task": config.task.name,
        "dataset": Path(config.task.dataset).name,
        "dataset_hash": settings["dataset"],
        "num_episodes": episodes.num_episodes,
        "seed": config.seed,
        "batch_size": config.batch_size,
        "optim": asdict(config.optim),
        "distill": {**asdict(config.distill), "teacher": Path(teacher).name} if teacher else None,
    }
