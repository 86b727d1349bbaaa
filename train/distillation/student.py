"""Students of diffusion policies: what they take over from their teachers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from ...policies.checkpoint import Checkpoint
from ...policies.diffusion.model import DiffusionModel, seeded_model
from ..config.distill import DistillConfig
from ..config.lerobot import ANY_PERIOD, LeRobotConfig, load
from ..data.episodes import Episodes
from ..data.features import is_cut
from ..families import family_of

if TYPE_CHECKING:
    from ..config.training import TrainConfig

_TAKEN_OVER = (
    "model",
    "cameras",
    "num_draws",
    "encoder_weights",
    "action_normalization",
    "observation_normalization",
)


def load_teacher(name_or_path: str) -> Checkpoint:
    """A checkpoint of hotloop's or LeRobot's."""
    return load(name_or_path, LeRobotConfig(), ANY_PERIOD)


def diffusion_teacher(name_or_path: str) -> DiffusionModel:
    """The model of a teacher.

    Raises:
        ValueError: If it is of another family.
    """
    checkpoint = load_teacher(name_or_path)
    if not isinstance(checkpoint.model, DiffusionModel):
        raise ValueError(
            f"distill.teacher={name_or_path} is a {checkpoint.kind}, so its student is no "
            f"diffusion policy; {family_of(checkpoint.kind).advice(checkpoint.kind)}"
        )
    return checkpoint.model


def student_of(teacher: DiffusionModel, seed: int) -> DiffusionModel:
    """A model with its teacher's weights that listens to the size of its jumps.

    It predicts clean actions, whatever its teacher predicts: where one call crosses all levels,
    noise or velocity cannot be turned into actions without blowing errors up. Of a teacher that
    predicts clean actions it is an exact copy, deaf to jumps at first.
    """
    config = replace(teacher.config, prediction="sample", jump=True, fitted_calls=())
    student = seeded_model(config, teacher.observation_shapes, teacher.action_dim, seed)
    own = student.state_dict()
    # What the teacher lacks are the jump layers, which start at zero.
    known = {key: value for key, value in teacher.state_dict().items() if key in own}
    student.load_state_dict({**own, **known})
    _turn_to_actions(student, teacher.config.prediction)
    return student


@torch.no_grad()
def _turn_to_actions(student: DiffusionModel, prediction: str) -> None:
    """Let the last layer start from what a noisy window is nearest to.

    Near pure noise v = a eps - s x0 is -x0. Noise says nothing of actions there: a student that
    starts from it learns more slowly than one that starts from zero.
    """
    gain = {"sample": 1.0, "velocity": -1.0, "epsilon": 0.0}[prediction]
    layers = [one for one in student.network.modules() if isinstance(one, nn.Linear | nn.Conv1d)]
    for parameter in layers[-1].parameters() if layers else ():
        parameter.mul_(gain)


def check_data(name: str, teacher: DiffusionModel, episodes: Episodes) -> None:
    """Raise ValueError if demonstrations are not of the shapes that a teacher has learned from."""
    for key, expected in teacher.observation_shapes.items():
        found = episodes.observations.get(key)
        if found is None or found.shape[1:] != tuple(expected):
            raise ValueError(
                f"distill.teacher={name} observes {key!r} of shape {tuple(expected)}, the dataset "
                f"has {found.shape[1:] if found is not None else 'no such key'}; distil on the "
                "demonstrations that it was trained on"
            )
    if episodes.actions.shape[1] != teacher.action_dim:
        raise ValueError(
            f"distill.teacher={name} has actions of size {teacher.action_dim}, the dataset "
            f"{episodes.actions.shape[1]}; distil on the demonstrations that it was trained on"
        )


def unread_of_student(config: TrainConfig) -> Iterable[tuple[str, str]]:
    """A student takes over its teacher's network, and pictures as its teacher sees them."""
    reason = "the student takes over its teacher's network and normalisation"
    yield from ((f"policy.{name}", reason) for name in _TAKEN_OVER)
    names, reason = _unread_of_pictures(config.distill)
    yield from ((f"distill.{name}", reason) for name in names)
    if config.task.dataset:
        names, reason = ("distill.num_rollouts", "distill.rollout_noise"), "task.dataset is read"
    else:
        names, reason = ("task.keys", "task.options"), "task.dataset names no demonstrations"
    yield from ((name, reason) for name in names)


def _unread_of_pictures(distill: DistillConfig) -> tuple[Sequence[str], str]:
    """What has no effect on how a student learns from the pictures that its teacher sees."""
    try:
        vision = diffusion_teacher(distill.teacher).vision
    except FileNotFoundError:
        return [], ""  # a teacher that is yet to be trained; a run says that it is missing
    if vision is None:
        return ["num_crops", "train_encoder"], "the teacher sees no pictures"
    if getattr(distill, "train_encoder", False):
        return ["num_crops"], "an encoder in training sees new crops in every batch"
    if not is_cut(vision):
        return ["num_crops"], "the teacher's encoder sees whole pictures"
    return [], ""
