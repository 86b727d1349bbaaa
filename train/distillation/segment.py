"""Segment distillation of streaming policies: one network call per control step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...policies.checkpoint import Checkpoint
from ...policies.diffusion.model import DiffusionModel
from ..config.distill import JumpDistillConfig
from ..config.policies import DenoisingConfig
from ..data.episodes import Episodes
from ..data.features import cached_features
from ..families.diffusion import level_mixture, make_windows
from ..families.family import Training
from ..objectives.denoising import DenoisingObjective
from ..objectives.segment import JumpObjective, check_ladders
from .method import Method
from .student import check_data, student_of, unread_of_student

if TYPE_CHECKING:
    from ..config.training import TrainConfig


def prepare(config: TrainConfig, teacher: Checkpoint, episodes: Episodes) -> Training:
    """Jumps of a rolling buffer that a teacher makes in many steps."""
    policy, distill = config.policy, config.distill
    assert isinstance(policy, DenoisingConfig) and isinstance(distill, JumpDistillConfig)
    assert isinstance(teacher.model, DiffusionModel)
    check_data(distill.teacher, teacher.model, episodes)
    model, features = student_of(teacher.model, config.seed), None
    if model.vision is not None and not distill.train_encoder:
        model.vision.requires_grad_(False)
        features = cached_features(model.vision, episodes, distill.num_crops)
    windows = make_windows(model.config, episodes, features)
    denoising = DenoisingObjective(model, level_mixture(policy, model), policy.observation_noise)
    student = JumpObjective(model, teacher.model, denoising, windows, distill, config.seed)
    return Training(student, windows)


def _check_run(config: TrainConfig, teacher: Checkpoint) -> None:
    """Raise ValueError for a teacher without buffers, or more calls than a step of them takes."""
    distill, model = config.distill, teacher.model
    assert isinstance(distill, JumpDistillConfig) and isinstance(model, DiffusionModel)
    if config.save_every % distill.refresh_every:
        raise ValueError(
            f"save_every {config.save_every} must be a multiple of distill.refresh_every "
            f"{distill.refresh_every}: buffers between refreshes are not saved"
        )
    check_ladders(model)
    latencies = model.config.max_latency + 1
    if distill.num_visits < latencies:
        raise ValueError(
            f"distill.num_visits must be at least {latencies}, the latencies that "
            f"distill.teacher={distill.teacher} knows, got {distill.num_visits}"
        )
    most = min(ladder.levels_per_step for ladder in model.ladders)
    if max(distill.calls_per_step) > most:
        raise ValueError(
            f"distill.calls_per_step {list(distill.calls_per_step)} must be at most {most}, the "
            f"noise levels that a control step of distill.teacher={distill.teacher} descends"
        )


METHOD = Method(
    name="segment",
    summary="a streaming policy's control step, which takes many calls, in one or two",
    source="StreamDiT (arXiv 2507.03745), DAgger",
    cost="1 x its teacher's training",
    teachers=("sdp",),
    calls=(),
    config=JumpDistillConfig,
    prepare=prepare,
    data_free=True,
    check_run=_check_run,
    unread=unread_of_student,
    sampling={"update": "ddim", "start_calls": None},
)
