"""MeanFlow: jumps learned from demonstrations instead of a teacher's trajectories."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...policies.checkpoint import Checkpoint
from ...policies.diffusion.model import DiffusionModel, seeded_model
from ..config.distill import MeanFlowConfig
from ..config.policies import DenoisingConfig
from ..data.episodes import Episodes
from ..data.features import cached_features
from ..families.diffusion import make_windows
from ..families.family import Training
from ..objectives.mean_flow import MeanFlowObjective
from .method import Method
from .student import check_data, student_of, unread_of_student

if TYPE_CHECKING:
    from ..config.training import TrainConfig


def prepare(config: TrainConfig, teacher: Checkpoint, episodes: Episodes) -> Training:
    """Average velocities; of the teacher, only what the student begins with."""
    policy, distill, model = config.policy, config.distill, teacher.model
    assert isinstance(policy, DenoisingConfig) and isinstance(distill, MeanFlowConfig)
    assert isinstance(model, DiffusionModel)
    check_data(distill.teacher, model, episodes)
    student, features = student_of(model, config.seed), None
    if not distill.warm:
        _forget(student, config.seed)
    if student.vision is not None:
        student.vision.requires_grad_(False)
        features = cached_features(student.vision, episodes, distill.num_crops)
    windows = make_windows(model.config, episodes, features)
    objective = MeanFlowObjective(student, distill.jumping, policy.observation_noise)
    return Training(objective, windows)


def _forget(student: DiffusionModel, seed: int) -> None:
    """Give the network new weights."""
    fresh = seeded_model(student.config, student.observation_shapes, student.action_dim, seed)
    student.network.load_state_dict(fresh.network.state_dict())


def _unread(config: TrainConfig) -> Iterable[tuple[str, str]]:
    """Besides what no student reads: all levels of a window are alike."""
    yield from unread_of_student(config)
    for name in ("chunkwise", "independent"):
        yield f"policy.{name}", "distill.method=mean-flow draws levels by itself"


METHOD = Method(
    name="mean-flow",
    summary="jumps of any length from demonstrations, without a teacher's trajectories",
    source="MeanFlow (arXiv 2505.13447), MP1 (2507.10543)",
    cost="at most 1 x its teacher's training",
    teachers=("dp",),
    calls=(),
    sampling={"update": "ddim", "spacing": "even"},
    config=MeanFlowConfig,
    prepare=prepare,
    unread=_unread,
)
