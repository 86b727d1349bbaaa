"""Fitting the steps of a diffusion policy's sampler; the network stays as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ...decoding.fitted import FITTED
from ...decoding.samplers import reverse, sampling_levels
from ...policies.checkpoint import Checkpoint
from ...policies.diffusion.config import DiffusionSampling, check_fitted_calls
from ...policies.diffusion.model import DiffusionModel
from ..config.distill import SamplerDistillConfig
from ..data.episodes import Episodes
from ..data.features import cached_features
from ..data.windows import Windows, step_generator
from ..families.diffusion import make_windows
from ..families.family import Training
from ..objectives.fitted_sampler import Pairs, SamplerObjective, StepTable, with_fitted_steps
from ..objectives.observed import see
from ..processes import is_main_process
from .method import Method
from .student import check_data, unread_of_student

if TYPE_CHECKING:
    from ..config.training import TrainConfig

_CHUNK = 256  # windows that the teacher samples side by side


def prepare(config: TrainConfig, teacher: Checkpoint, episodes: Episodes) -> Training:
    """Few steps of a sampler that shall end where the teacher's own end, from the same noise."""
    distill, model, sampling = config.distill, teacher.model, config.policy.sampling
    assert isinstance(distill, SamplerDistillConfig) and isinstance(model, DiffusionModel)
    check_data(distill.teacher, model, episodes)
    levels, calls = teacher_levels(model, teacher.sampling, distill), distill.calls_per_step
    features = None
    if model.vision is not None:
        features = cached_features(model.vision, episodes, num_crops=1)
    windows = make_windows(model.config, episodes, features)
    pairs = sampled_pairs(model, windows, levels, distill.num_pairs, config.seed)

    def store(averaged: nn.Module) -> DiffusionModel:
        assert isinstance(averaged, StepTable)
        return with_fitted_steps(model, averaged)

    chosen = sampling.calls_per_step if sampling.calls_per_step in calls else max(calls)
    fitted = replace(
        sampling, update=FITTED, calls_per_step=chosen, spacing="even", prefix_guidance=""
    )
    objective = SamplerObjective(model, calls, teacher.sampling.spacing)
    return Training(objective, pairs, store, sampling=fitted)


def _check_run(config: TrainConfig, teacher: Checkpoint) -> None:
    """Raise ValueError for calls that are no fewer than the teacher's, or named twice."""
    distill, model = config.distill, teacher.model
    assert isinstance(distill, SamplerDistillConfig) and isinstance(model, DiffusionModel)
    teacher_levels(model, teacher.sampling, distill)
    check_fitted_calls("distill.calls_per_step", distill.calls_per_step, model.config.num_levels)


def teacher_levels(
    model: DiffusionModel, sampling: DiffusionSampling, distill: SamplerDistillConfig
) -> np.ndarray:
    """Levels of the DDIM steps that are to be replaced, and 0.

    Raises:
        ValueError: If they are no more than the steps that shall replace them, more than there are
            levels, or fitted already.
    """
    if sampling.update == FITTED:
        raise ValueError(
            f"distill.teacher={distill.teacher} samples in fitted steps already; distil the "
            "checkpoint that they were fitted for"
        )
    num_levels = model.config.num_levels
    steps = distill.teacher_steps or sampling.calls_per_step or num_levels
    if steps > num_levels:
        raise ValueError(
            f"distill.teacher_steps must be at most {num_levels}, the noise levels of "
            f"distill.teacher={distill.teacher}, got {steps}"
        )
    if max(distill.calls_per_step) >= steps:
        raise ValueError(
            f"distill.calls_per_step {list(distill.calls_per_step)} must be fewer than the {steps} "
            "steps that they replace; name fewer, or set distill.teacher_steps to more"
        )
    return sampling_levels(num_levels, steps, sampling.spacing)


@torch.no_grad()
def sampled_pairs(
    teacher: DiffusionModel, windows: Windows, levels: np.ndarray, num_pairs: int, seed: int
) -> Pairs:
    """Noise, and the windows that a teacher's DDIM makes of it, for observations of the data.

    Args:
        teacher: Trained model.
        windows: Demonstrations, for their observations.
        levels: Levels that the teacher visits, and 0.
        num_pairs: Number of pairs P.
        seed: Seed of observations and noise.
    """
    generator, config = step_generator(seed, 0, stream="pairs"), teacher.config
    current = torch.randint(len(windows), (num_pairs,), generator=generator)
    noise = torch.randn(num_pairs, *teacher.window_shape, generator=generator)
    vectors = [np.full(config.horizon, level) for level in levels]
    device = teacher.action_normalizer.scale.device
    parts: list[Pairs] = []
    hidden = not is_main_process()
    with tqdm(total=num_pairs, desc="teacher", unit="window", disable=hidden) as progress:
        for rows, x in zip(current.split(_CHUNK), noise.to(device).split(_CHUNK), strict=True):
            context = see(teacher, windows.gather(rows).to(device), None).context(teacher)
            landed = reverse(
                lambda x, k, o=context: teacher.predict(x, k, o),
                x,
                vectors,
                teacher.schedule,
                config.prediction,
                clip=config.clip,
            )
            parts.append(Pairs(context, x, landed))
            progress.update(len(rows))
    return Pairs(
        *(torch.cat([getattr(part, name) for part in parts]) for name in Pairs.__annotations__)
    )


METHOD = Method(
    name="sampler",
    summary="three fitted scalars per network call; the network stays as it is",
    source="Learnable Sampler Distillation (arXiv 2509.19962), S4S (arXiv 2502.17423)",
    cost="seconds to minutes of one CPU core",
    teachers=("dp",),
    calls=(),
    config=SamplerDistillConfig,
    prepare=prepare,
    data_free=True,
    check_run=_check_run,
    unread=unread_of_student,
    settings={
        "steps": 300,
        "batch_size": 64,
        "save_every": 100,
        "optim": {"lr": 0.05, "warmup_steps": 0},
    },
    sampling={"update": "fitted"},
)
