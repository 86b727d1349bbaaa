"""Fitting the steps of a diffusion policy's sampler; the network stays as it is."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from ...decoding.fitted import FITTED
from ...decoding.samplers import reverse, spaced_levels
from ...policies.checkpoint import Checkpoint
from ...policies.diffusion.config import check_fitted_calls
from ...policies.diffusion.model import DiffusionModel
from ..config.distill import SamplerDistillConfig
from ..data.episodes import Episodes
from ..data.features import cached_features, check_seen
from ..data.windows import Windows, step_generator
from ..families.diffusion import make_windows
from ..families.family import Training
from ..objectives.fitted_sampler import Pairs, SamplerObjective, with_fitted_steps
from ..objectives.observed import see
from ..processes import is_main_process
from .method import Method
from .student import unread_of_student

if TYPE_CHECKING:
    from ..config.training import TrainConfig

_CHUNK = 256  # windows that the teacher samples side by side


def prepare(config: TrainConfig, teacher: Checkpoint, episodes: Episodes | None) -> Training:
    """Few steps of a sampler that shall end where many of the same network end."""
    distill, model, sampling = config.distill, teacher.model, config.policy.sampling
    assert isinstance(distill, SamplerDistillConfig) and isinstance(model, DiffusionModel)
    assert episodes is not None
    calls = distill.calls_per_step
    check_fitted_calls("distill.calls_per_step", calls, model.config.num_levels)
    features = None
    if model.vision is not None:
        check_seen(model.vision, {k: a.shape[1:] for k, a in episodes.observations.items()})
        features = cached_features(model.vision, episodes, num_crops=1)
    pairs = sampled_pairs(model, make_windows(model.config, episodes, features), distill, config.seed)
    chosen = sampling.calls_per_step if sampling.calls_per_step in calls else max(calls)
    fitted = replace(
        sampling, update=FITTED, calls_per_step=chosen, spacing="even", prefix_guidance=""
    )
    return Training(
        SamplerObjective(model, calls), pairs, partial(with_fitted_steps, model), sampling=fitted
    )


@torch.no_grad()
def sampled_pairs(
    teacher: DiffusionModel, windows: Windows, distill: SamplerDistillConfig, seed: int
) -> Pairs:
    """Noise, and the windows that a teacher's DDIM makes of it, for observations of the data.

    Args:
        teacher: Trained model.
        windows: Demonstrations, for their observations.
        distill: Number of pairs, and of the teacher's steps.
        seed: Seed of observations and noise.
    """
    generator = step_generator(seed, 0, stream="sampler")
    num, config = distill.num_pairs, teacher.config
    current = torch.randint(len(windows), (num,), generator=generator)
    noise = torch.randn(num, *teacher.window_shape, generator=generator)
    steps = min(distill.teacher_steps, config.num_levels)
    levels = [np.full(config.horizon, k) for k in spaced_levels(config.num_levels, 0, steps)]
    device = teacher.action_normalizer.scale.device
    parts: list[Pairs] = []
    with tqdm(total=num, desc="teacher", unit="window", disable=not is_main_process()) as progress:
        for rows, x in zip(current.split(_CHUNK), noise.to(device).split(_CHUNK), strict=True):
            context = see(teacher, windows.gather(rows).to(device), None).context(teacher)
            landed = reverse(
                lambda x, k, o=context: teacher.predict(x, k.to(x.device), o),
                x,
                levels,
                teacher.schedule,
                config.prediction,
                clip=config.clip,
            )
            parts.append(Pairs(context, x, landed))
            progress.update(len(rows))
    return Pairs(*(torch.cat([getattr(p, n) for p in parts]) for n in ("context", "noise", "landed")))


METHOD = Method(
    name="sampler",
    summary="three fitted scalars per network call, the network as it is",
    source="Learnable Sampler Distillation (arXiv 2509.19962), S4S (arXiv 2502.17423)",
    cost="a minute of one CPU core for a network of vectors",
    teachers=("dp",),
    calls=(),
    config=SamplerDistillConfig,
    prepare=prepare,
    unread=unread_of_student,
)
