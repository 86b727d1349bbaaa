"""What is minimised: one module per objective, so that it can be wrapped for many devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...decoding.rolling import LevelMixture
from ...policies.diffusion.model import Batch, DiffusionModel, denoising_loss


class TrainingWindows(Protocol):
    """Samples of a dataset, by index."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def gather(self, current: Tensor, /) -> Any:
        """Batch of the samples at indices of shape (B,); it can be moved with ``to(device)``."""
        ...


class Objective(Protocol):
    """A loss with its own random draws."""

    model: nn.Module

    def prepare(self, step: int) -> None:
        """Called before the draw of each step."""
        ...

    def draw(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """Turn a global batch into tensors with leading dimension B, all randomness included.

        Random numbers come from a CPU generator, so they are the same on every device.
        """
        ...

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Mean loss over the rows of `inputs`."""
        ...


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

    def draw(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Normalise the batch, and draw levels and noise for each sample."""
        with torch.no_grad():
            observation = self.model.flatten(batch.observation)
            clean = self.model.action_normalizer(batch.actions)
        if self.observation_noise > 0:
            jitter = torch.randn(observation.shape, generator=generator)
            observation = observation + self.observation_noise * jitter.to(clean.device)
        return {
            "observation": observation,
            "clean": clean,
            "level": self.mixture.draw(len(clean), generator).to(clean.device),
            "noise": torch.randn(clean.shape, generator=generator).to(clean.device),
        }

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Mean squared prediction error."""
        return denoising_loss(
            self.model, inputs["observation"], inputs["clean"], inputs["level"], inputs["noise"]
        )
