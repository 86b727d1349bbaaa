"""Denoising of demonstrated actions: what Diffusion Policy and SDP are trained towards."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...decoding.placed import placed
from ...decoding.rolling import LevelMixture
from ...policies.diffusion.model import Batch, DiffusionModel, denoising_loss
from .objective import Drawn
from .observed import Seen, see


@dataclass(frozen=True)
class DenoisingDraw(Drawn):
    """Samples to denoise, n of each window.

    Attributes:
        seen: Observation histories of B windows.
        clean: Normalised actions, shape (B, H, D).
        level: Noise level of each action, shape (B, n, H).
        noise: Gaussian noise, shape (B, n, H, D).
    """

    seen: Seen
    clean: Tensor
    level: Tensor
    noise: Tensor


class DenoisingObjective(nn.Module):
    """Denoising at levels drawn from a mixture: Diffusion Policy and SDP alike.

    Args:
        model: Model to train.
        mixture: How levels are drawn.
        observation_noise: Standard deviation of the noise on normalised observations.
        num_draws: Draws of level and noise for each window, n. Where pictures are encoded, further
            draws cost little.
    """

    draws_on_device = True

    def __init__(
        self,
        model: DiffusionModel,
        mixture: LevelMixture,
        observation_noise: float = 0.0,
        num_draws: int = 1,
    ) -> None:
        super().__init__()
        self.model = model
        self.mixture = mixture
        self.observation_noise = observation_noise
        self.num_draws = num_draws

    def prepare(self, step: int) -> None:
        """Nothing to prepare."""

    def draw(self, batch: Batch, generator: torch.Generator) -> DenoisingDraw:
        """Normalise the batch, and draw levels and noise for each sample."""
        drawn = self.sample(batch, generator)
        return replace(drawn, level=placed(drawn.level, drawn.clean.device))

    def sample(self, batch: Batch, generator: torch.Generator) -> DenoisingDraw:
        """The same with the levels where they were drawn, which is where the generator is."""
        seen = see(self.model, batch, generator, self.observation_noise)
        with torch.no_grad():
            clean = self.model.action_normalizer(batch.actions)  # (b, h, d)
        num, shape = self.num_draws, clean.shape
        level = self.mixture.draw(shape[0] * num, generator).unflatten(0, (-1, num))  # (b, n, h)
        size = (shape[0], num, *shape[1:])
        noise = torch.randn(size, generator=generator, device=generator.device)  # (b, n, h, d)
        return DenoisingDraw(seen, clean, level, placed(noise, clean.device))

    def forward(self, inputs: DenoisingDraw) -> Tensor:
        """Mean squared prediction error, shape ()."""
        num = inputs.level.shape[1]
        context, clean = inputs.seen.context(self.model), inputs.clean
        return denoising_loss(
            self.model,
            context.repeat_interleave(num, dim=0) if num > 1 else context,
            clean.repeat_interleave(num, dim=0) if num > 1 else clean,
            inputs.level.flatten(0, 1),
            inputs.noise.flatten(0, 1),
        )
