"""Consistency distillation along the teacher's trajectories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...policies.checkpoint import Checkpoint
from ..config.distill import ConsistencyConfig
from ..data.episodes import Episodes
from ..families.family import Training
from ..objectives.consistency import ConsistencyObjective
from .flow_map import (
    check_along_trajectories,
    learned_sampling,
    student_and_trajectories,
    unread_along_trajectories,
)
from .method import Method

if TYPE_CHECKING:
    from ..config.training import TrainConfig


def prepare(config: TrainConfig, teacher: Checkpoint, episodes: Episodes) -> Training:
    """Agreement of jumps from neighbouring points of stored trajectories."""
    distill = config.distill
    assert isinstance(distill, ConsistencyConfig)
    student, windows = student_and_trajectories(config, teacher, episodes)
    objective = ConsistencyObjective(student, windows, distill)
    return Training(objective, windows, sampling=learned_sampling(config))


METHOD = Method(
    name="consistency",
    summary="the same jumps, by agreement of the student with itself",
    source="Hyper-SD (arXiv 2404.13686), Consistency Trajectory Models (arXiv 2310.02279)",
    cost="minutes for the trajectories, then 1.5 x its teacher's training",
    teachers=("dp",),
    calls=(),
    sampling={"update": "ddim", "spacing": "even"},
    config=ConsistencyConfig,
    prepare=prepare,
    data_free=True,
    check_run=check_along_trajectories,
    unread=unread_along_trajectories,
)
