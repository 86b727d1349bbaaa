"""What objectives show a diffusion model of the observation, and the gradient's way through it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...policies.diffusion.model import Batch, DiffusionModel, join
from .objective import Drawn


@dataclass(frozen=True)
class Seen(Drawn):
    """Observation histories of a batch.

    Attributes:
        vectors: Normalised vectors, shape (B, To, V).
        pictures: What the encoders see of pictures, bytes of shape (B, To, P'); None without any.
        features: What the encoder has made of pictures already, shape (B, To, F), instead of them.
    """

    vectors: Tensor
    pictures: Tensor | None = None
    features: Tensor | None = None

    def context(self, model: DiffusionModel) -> Tensor:
        """What the network of `model` is told, shape (B, To * O); pictures are encoded here."""
        features = self.features
        if self.pictures is not None:
            assert model.vision is not None
            features = model.vision.encode(self.pictures)
        return join(self.vectors, features)

    def where(self, chosen: Tensor, other: Seen) -> Seen:
        """`other` in the rows that are chosen, bool of shape (B,), and these in the rest."""

        def mix(one: Tensor, two: Tensor) -> Tensor:
            return torch.where(chosen[:, None, None], two, one)

        rest = {
            name: mix(getattr(self, name), getattr(other, name))
            for name in ("pictures", "features")
            if getattr(self, name) is not None
        }
        return Seen(mix(self.vectors, other.vectors), **rest)


@torch.no_grad()
def see(
    model: DiffusionModel, batch: Batch, generator: torch.Generator | None, noise: float = 0.0
) -> Seen:
    """Normalise the vectors of a batch, and cut out of its pictures what the encoders see.

    Args:
        model: Model that is shown it.
        batch: Windows on the model's device.
        generator: Draws places of crops and noise; without it crops are from the middle.
        noise: Standard deviation of the noise on normalised vectors.
    """
    vectors = model.vectors(batch.observation)  # (b, to, v)
    if noise > 0 and generator is not None:
        jitter = torch.randn(vectors.shape, generator=generator)
        vectors = vectors + noise * jitter.to(vectors.device)
    if model.vision is None or batch.features is not None:
        return Seen(vectors, features=batch.features)
    return Seen(vectors, model.vision.crop(batch.observation, generator))
