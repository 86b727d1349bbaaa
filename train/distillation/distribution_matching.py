"""Distribution matching with a pair anchor."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import nn

from ...policies.checkpoint import Checkpoint
from ..config.distill import DistributionMatchingConfig
from ..data.episodes import Episodes
from ..families.family import Training
from ..objectives.distribution_matching import DistributionMatchingObjective, StudentAndCritic
from ..objectives.flow_map import FlowMapObjective
from .flow_map import student_and_trajectories, unread_along_trajectories
from .method import Method

if TYPE_CHECKING:
    from ..config.training import TrainConfig


def prepare(config: TrainConfig, teacher: Checkpoint, episodes: Episodes | None) -> Training:
    """The student, its critic, and jumps along stored trajectories as the anchor."""
    distill = config.distill
    assert isinstance(distill, DistributionMatchingConfig)
    student, windows = student_and_trajectories(config, teacher, episodes)
    anchor = FlowMapObjective(student, teacher.model, windows, distill, config.seed)
    both = StudentAndCritic(student, teacher.model)
    objective = DistributionMatchingObjective(both, teacher.model, anchor, distill)
    return Training(objective, windows, store=_student)


def _student(both: nn.Module) -> nn.Module:
    return cast(StudentAndCritic, both).student


METHOD = Method(
    name="distribution-matching",
    summary="samples pushed to where its teacher finds them likelier than a critic does",
    source="DMD (arXiv 2311.18828), DMD2 (2405.14867), Phased DMD (2510.27684)",
    cost="minutes for the trajectories, then 2 x its teacher's training",
    teachers=("dp",),
    calls=(),
    config=DistributionMatchingConfig,
    prepare=prepare,
    unread=unread_along_trajectories,
)
