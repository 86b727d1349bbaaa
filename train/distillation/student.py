"""Students of diffusion policies: what they take over from their teachers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

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
    """Copy a model and make it listen to the size of its jumps, to which it is deaf at first.

    A student predicts clean actions, whatever its teacher predicts: where one call crosses all
    levels, noise or velocity cannot be turned into actions without blowing errors up. Of a teacher
    that predicts clean actions it is an exact copy, of another one it has all weights to begin
    with.
    """
    config = replace(teacher.config, prediction="sample", jump=True)
    student = seeded_model(config, teacher.observation_shapes, teacher.action_dim, seed)
    # What the teacher lacks are the jump layers, which start at zero.
    student.load_state_dict({**student.state_dict(), **teacher.state_dict()})
    return student


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


def _unread_of_pictures(distill: DistillConfig) -> tuple[list[str], str]:
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
