"""Guidance distillation of planners: two passes per step in one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...policies.checkpoint import Checkpoint
from ...policies.planners.model import PlannerModel
from ..config.distill import DistillConfig
from ..config.policies import PlannerLosses, PlannerPolicyConfig
from ..data.episodes import Episodes
from ..data.plan_windows import PlanWindows
from ..families.family import Training
from ..objectives.guidance import GuidanceObjective, guidance_student
from .method import Method

if TYPE_CHECKING:
    from ..config.training import TrainConfig


def prepare(config: TrainConfig, teacher: Checkpoint, episodes: Episodes | None) -> Training:
    """A student that needs no second pass at the weight ``policy.sampling.guidance``.

    Raises:
        ValueError: If the teacher has no guidance to distil, or data and teacher do not fit.
    """
    policy, model = config.policy, teacher.model
    assert isinstance(policy, PlannerPolicyConfig) and isinstance(model, PlannerModel)
    assert episodes is not None
    name = f"distill.teacher={config.distill.teacher}"
    if model.goal_dim:
        raise ValueError(f"{name} plans to goals: it has no guidance to distil")
    if model.config.distilled_guidance is not None:
        raise ValueError(f"{name} is a student itself; distil its teacher")
    for key in model.state_keys:
        found = episodes.observations[key].shape[1:] if key in episodes.observations else None
        if found != model.observation_shapes[key]:
            raise ValueError(
                f"{name} observes {key!r} of shape {model.observation_shapes[key]}, the dataset "
                f"has {found or 'none'}"
            )
    windows = PlanWindows(episodes, model.state_keys, model.config)
    student = guidance_student(model, policy.sampling.guidance)
    return Training(GuidanceObjective(student, model), windows)


def unread(config: TrainConfig) -> Iterable[tuple[str, str]]:
    """A student takes over its teacher's parts and trains the denoiser alone."""
    del config
    names = ("model", *PlannerLosses.__dataclass_fields__)
    return [(f"policy.{name}", "the student is a copy of its teacher") for name in names]


METHOD = Method(
    name="guidance",
    summary="both passes of a planner's guidance in one",
    source="On Distillation of Guided Diffusion Models (arXiv 2210.03142), first stage",
    cost="1 x its teacher's training",
    teachers=("diffuser", "decision_diffuser", "trajectory_diffuser"),
    calls=(),
    config=DistillConfig,
    prepare=prepare,
    unread=unread,
)
