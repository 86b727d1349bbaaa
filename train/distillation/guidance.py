"""Distillation of planners: two passes per step in one, and all steps in one or two."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from ...policies.checkpoint import Checkpoint
from ...policies.planners.config import PlannerSampling
from ...policies.planners.model import PlannerModel
from ..config.distill import GuidanceDistillConfig
from ..config.policies import PlannerLosses, PlannerPolicyConfig
from ..data.episodes import Episodes
from ..data.plan_windows import PlanWindows
from ..families.family import Training
from ..objectives.guidance import GuidanceObjective, guidance_student
from ..objectives.plan_jumps import PlanJumpObjective
from .method import Method

if TYPE_CHECKING:
    from ..config.training import TrainConfig


def prepare(config: TrainConfig, teacher: Checkpoint, episodes: Episodes) -> Training:
    """A student that needs no second pass, and as few calls as it is asked to learn.

    Raises:
        ValueError: If the teacher has nothing to distil, or data and teacher do not fit.
    """
    policy, model, distill = config.policy, teacher.model, config.distill
    assert isinstance(policy, PlannerPolicyConfig) and isinstance(model, PlannerModel)
    assert isinstance(distill, GuidanceDistillConfig)
    name, jump = f"distill.teacher={distill.teacher}", bool(distill.calls_per_step)
    sampling = replace(policy.sampling, draft_level=draft_level(policy.sampling, teacher))
    guidance = learned_guidance(model, sampling, distill)
    if not jump and guidance is None:
        raise ValueError(
            f"{name} plans to goals: it has no guidance to distil; name numbers of calls to distil "
            "those, in `hotloop distill` with calls=…, else with distill.calls_per_step"
        )
    check_teacher(model, name, episodes)
    windows = PlanWindows(episodes, model.state_keys, model.config)
    student = guidance_student(model, guidance, jump, config.seed)
    if not jump:
        return Training(GuidanceObjective(student, model), windows)
    objective = PlanJumpObjective(student, model, windows, sampling, distill, config.seed)
    return Training(objective, windows, sampling=student_sampling(sampling, distill))


def check_teacher(model: PlannerModel, name: str, episodes: Episodes) -> None:
    """Raise ValueError if a planner cannot teach, or not on these demonstrations."""
    if model.config.distilled_guidance is not None or model.config.jump:
        raise ValueError(f"{name} is a student itself; distil its teacher")
    if not model.goal_dim and episodes.rewards is None:
        raise ValueError(
            f"{name} is conditioned on returns, but the dataset has no rewards; distil on the "
            "demonstrations that it was trained on"
        )
    for key in model.observation_shapes if model.goal_dim else model.state_keys:
        found = episodes.observations[key].shape[1:] if key in episodes.observations else None
        if found != model.observation_shapes[key]:
            raise ValueError(
                f"{name} observes {key!r} of shape {model.observation_shapes[key]}, the dataset "
                f"has {found or 'none'}"
            )


def learned_guidance(
    model: PlannerModel, sampling: PlannerSampling, distill: GuidanceDistillConfig
) -> float | tuple[float, float] | None:
    """Guidance weight, or range of weights, that a student learns; None where there is none.

    Raises:
        ValueError: If a range is asked for that is none, or leaves out the student's own weight.
    """
    weights, jump = distill.guidance_range, bool(distill.calls_per_step)
    if model.goal_dim or (sampling.guidance == 0 and jump):
        if weights is not None:
            raise ValueError(
                f"distill.guidance_range {list(weights)} has no effect: this planner plans to "
                "goals, or policy.sampling.guidance is 0; leave it out"
            )
        return None
    if weights is None:
        return sampling.guidance
    if not weights[0] <= sampling.guidance <= weights[1] or weights[0] == weights[1]:
        raise ValueError(
            "distill.guidance_range must be two weights with policy.sampling.guidance "
            f"{sampling.guidance:g} between them, got {list(weights)}"
        )
    return weights


def draft_level(sampling: PlannerSampling, teacher: Checkpoint) -> int:
    """Level at which a student's draft enters: as it is told, or where its teacher's does."""
    taught: PlannerSampling = teacher.sampling
    if sampling.draft == "noise":
        return sampling.draft_level
    own = taught.draft_level or taught.calls_per_step if taught.draft == "rollout" else 0
    return sampling.draft_level or own or sampling.calls_per_step


def student_sampling(sampling: PlannerSampling, distill: GuidanceDistillConfig) -> PlannerSampling:
    """How a student plans unless it is told otherwise: in the fewest calls that it learned."""
    num = min(distill.calls_per_step)
    return replace(sampling, calls_per_step=num, update="ddim", value_steps=0)


def default_calls(teacher: Checkpoint) -> tuple[int, ...]:
    """Fewer calls than the teacher's; none where it makes one already, of two passes."""
    return tuple(num for num in (1, 2, 4) if num < teacher.sampling.calls_per_step)


def unread(config: TrainConfig) -> Iterable[tuple[str, str]]:
    """A student takes over its teacher's parts and trains the denoiser alone."""
    distill = config.distill
    assert isinstance(distill, GuidanceDistillConfig)
    names = ("model", *PlannerLosses.__dataclass_fields__)
    yield from ((f"policy.{name}", "the student is a copy of its teacher") for name in names)
    if not distill.calls_per_step:
        read = ("teacher", "method", "calls_per_step", "guidance_range")
        for name in (one.name for one in fields(distill) if one.name not in read):
            yield f"distill.{name}", "distill.calls_per_step names no number of calls"


METHOD = Method(
    name="guidance",
    summary="both passes of a planner's guidance in one, and all of its calls in few",
    source="Guided distillation (arXiv 2210.03142), AGD, LoRA-enhanced distillation",
    cost="as its teacher's training, to twice as much",
    teachers=("diffuser", "decision_diffuser", "trajectory_diffuser"),
    calls=(),
    config=GuidanceDistillConfig,
    prepare=prepare,
    unread=unread,
    settings={"steps": 12_000},
    default_calls=default_calls,
)
