"""Flow-map distillation: any jump along the teacher's trajectories in one call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from ...policies.checkpoint import Checkpoint
from ...policies.diffusion.config import DiffusionSampling
from ...policies.diffusion.model import DiffusionModel
from ..config.distill import FlowMapConfig, TrajectoryDistillConfig
from ..config.policies import DenoisingConfig
from ..data.episodes import Episodes
from ..data.features import cached_features
from ..families.diffusion import make_windows
from ..families.family import Training
from ..objectives.flow_map import FlowMapObjective
from .bank import make_bank
from .method import Method
from .student import check_data, student_of, unread_of_student
from .trajectories import TrajectoryWindows

if TYPE_CHECKING:
    from ..config.training import TrainConfig


def prepare(config: TrainConfig, teacher: Checkpoint, episodes: Episodes) -> Training:
    """Jumps along stored trajectories."""
    distill = config.distill
    assert isinstance(distill, FlowMapConfig)
    student, windows = student_and_trajectories(config, teacher, episodes)
    objective = FlowMapObjective(student, teacher.model, windows, distill, config.seed)
    return Training(objective, windows, sampling=learned_sampling(config))


def _check_run(config: TrainConfig, teacher: Checkpoint) -> None:
    """Besides what `check_along_trajectories` asks: nothing is lost where a run goes on."""
    distill = config.distill
    assert isinstance(distill, FlowMapConfig)
    if distill.visited and config.save_every % distill.refresh_every:
        raise ValueError(
            f"save_every {config.save_every} must be a multiple of distill.refresh_every "
            f"{distill.refresh_every}: the student's points between refreshes are not saved"
        )
    check_along_trajectories(config, teacher)


def learned_sampling(config: TrainConfig) -> DiffusionSampling:
    """The run's choices with a number of calls that the student learns, by default the fewest."""
    sampling, distill = config.policy.sampling, config.distill
    assert isinstance(sampling, DiffusionSampling) and isinstance(distill, TrajectoryDistillConfig)
    calls = distill.calls_per_step
    chosen = sampling.calls_per_step if sampling.calls_per_step in calls else min(calls)
    return replace(sampling, calls_per_step=chosen, update="ddim", spacing="even")


def student_and_trajectories(
    config: TrainConfig, teacher: Checkpoint, episodes: Episodes
) -> tuple[DiffusionModel, TrajectoryWindows]:
    """A student and the trajectories of its teacher that it learns from.

    Raises:
        ValueError: If the demonstrations are not what the teacher observes.
    """
    policy, distill, model = config.policy, config.distill, teacher.model
    assert isinstance(policy, DenoisingConfig) and isinstance(distill, TrajectoryDistillConfig)
    assert isinstance(model, DiffusionModel)
    check_data(distill.teacher, model, episodes)
    student, features = student_of(model, config.seed), None
    if student.vision is not None:
        student.vision.requires_grad_(False)
        features = cached_features(student.vision, episodes, distill.num_crops)
    windows = make_windows(model.config, episodes, features)
    bank = make_bank(model, windows, distill, policy.observation_noise, config.seed)
    return student, TrajectoryWindows(bank, windows)


def check_along_trajectories(config: TrainConfig, teacher: Checkpoint) -> None:
    """Raise ValueError for a student as teacher, or more calls or points than noise levels."""
    distill, model = config.distill, teacher.model
    assert isinstance(distill, TrajectoryDistillConfig) and isinstance(model, DiffusionModel)
    if model.config.jump:
        raise ValueError(
            f"distill.teacher={distill.teacher} is a student itself; distil its teacher"
        )
    num_levels = model.config.num_levels
    numbers = {
        "calls_per_step": max(distill.calls_per_step),
        "num_points": distill.num_points,
        "solver_steps": distill.solver_steps,
    }
    for name, number in numbers.items():
        if number > num_levels:
            raise ValueError(
                f"distill.{name} must be at most {num_levels}, the noise levels of "
                f"distill.teacher={distill.teacher}, got {number}"
            )


def unread_along_trajectories(config: TrainConfig) -> Iterable[tuple[str, str]]:
    """Besides what no student reads: all levels of a window are alike."""
    yield from unread_of_student(config)
    for name in ("chunkwise", "independent"):
        yield f"policy.{name}", f"distill.method={config.distill.method} draws levels by itself"


METHOD = Method(
    name="flow-map",
    summary="jumps between points of the teacher's trajectories, computed once",
    source="AccVideo (arXiv 2503.19462), 2-RF++ (arXiv 2405.20320), Flow Map Matching (2406.07507)",
    cost="as 5000 steps of its teacher's training, a fifth of it for the trajectories",
    teachers=("dp",),
    calls=(),
    sampling={"update": "ddim", "spacing": "even"},
    config=FlowMapConfig,
    prepare=prepare,
    data_free=True,
    check_run=_check_run,
    unread=unread_along_trajectories,
    settings={"steps": 4000},
)
