"""Denoising of demonstrated actions: what Diffusion Policy and SDP are trained towards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...decoding.rolling import LevelMixture
from ...policies.diffusion.model import Batch, DiffusionModel, denoising_loss
from .objective import Drawn


@dataclass(frozen=True)
class DenoisingDraw(Drawn):
    """Samples to denoise.

    Attributes:
        observation: Normalised observation histories, shape (B, To * O).
        clean: Normalised actions, shape (B, H, D).
        level: Noise level of each action, shape (B, H).
        noise: Gaussian noise, shape (B, H, D).
    """

    observation: Tensor
    clean: Tensor
    level: Tensor
    noise: Tensor


class DenoisingObjective(nn.Module):
    """Denoising at levels drawn from a mixture: Diffusion Policy and SDP alike.

    Args:
        model: Model to train.
        mixture: How levels are drawn.
        observation_noise: Standard deviation of the noise on normalised observations.
    """

    def __init__(
        self, model: DiffusionModel, mixture: LevelMixture, observation_noise: float = 0.0
    ) -> None:
        super().__init__()
        self.model = model
        self.mixture = mixture
        self.observation_noise = observation_noise

    def prepare(self, step: int) -> None:
        """Nothing to prepare."""

    def draw(self, batch: Batch, generator: torch.Generator) -> DenoisingDraw:
        """Normalise the batch, and draw levels and noise for each sample."""
        with torch.no_grad():
            observation = self.model.flatten(batch.observation)  # (b, to * o)
            clean = self.model.action_normalizer(batch.actions)  # (b, h, d)
        if self.observation_noise > 0:
            jitter = torch.randn(observation.shape, generator=generator)
            observation = observation + self.observation_noise * jitter.to(clean.device)
        level = self.mixture.draw(len(clean), generator).to(clean.device)  # (b, h)
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)  # (b, h, d)
        return DenoisingDraw(observation, clean, level, noise)

    def forward(self, inputs: DenoisingDraw) -> Tensor:
        """Mean squared prediction error, shape ()."""
        return denoising_loss(
            self.model, inputs.observation, inputs.clean, inputs.level, inputs.noise
        )
