"""What objectives show a diffusion model of the observation, and the gradient's way through it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...decoding.placed import placed
from ...policies.diffusion.model import Batch, DiffusionModel, join
from .objective import Drawn


@dataclass(frozen=True)
class Seen(Drawn):
    """Observation histories of a batch.

    Attributes:
        vectors: Normalised vectors, shape (B, To, V).
        pictures: What the encoders see of pictures, bytes of shape (B, To, P'); None without any.
        features: Features of one crop of the pictures, shape (B, To, F), instead of them, where
            an encoder that is not trained has made them already.
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

    Of pictures whose features are known, one crop is chosen for each sample.

    Args:
        model: Model that is shown it.
        batch: Windows on the model's device.
        generator: Draws places of crops and noise; without it crops are from the middle.
        noise: Standard deviation of the noise on normalised vectors.
    """
    features = None if batch.features is None else _one_crop(batch.features, generator)
    if features is None or model.vector_keys:
        vectors = model.vectors(batch.observation)  # (b, to, v)
    else:
        vectors = features[..., :0]
    if noise > 0 and generator is not None:
        jitter = torch.randn(vectors.shape, generator=generator, device=generator.device)
        vectors = vectors + noise * placed(jitter, vectors.device)
    if model.vision is None or features is not None:
        return Seen(vectors, features=features)
    return Seen(vectors, model.vision.crop(batch.observation, generator))


def _one_crop(features: Tensor, generator: torch.Generator | None) -> Tensor:
    """Of features (B, To, K, F) one crop for each sample, the same for its To frames."""
    batch, num_crops, device = len(features), features.shape[2], features.device
    if generator is None:
        return features[:, :, 0]
    place = generator.device
    which = torch.randint(num_crops, (batch,), generator=generator, device=place)
    return features[torch.arange(batch, device=device), :, placed(which, device)]
