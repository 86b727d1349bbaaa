"""The contract of picture encoders, the table of them, and the layers that they share."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ...decoding.plumbing.plugins import Registry
from .config import EncoderConfig


class PictureEncoder(nn.Module, ABC):
    """A network that turns one picture into features, as many as its configuration says.

    To add one: a subclass in a file of its own, and its line in `ENCODERS`; or, in a package of
    one's own, an entry point of the group ``hotloop.encoders``, or nothing but
    ``encoder.kind=module:Name``.
    """

    @classmethod
    @abstractmethod
    def build(cls, config: EncoderConfig, size: tuple[int, int]) -> PictureEncoder:
        """Build the encoder with new weights.

        Args:
            config: Sizes and choices.
            size: Height and width of what it sees [px].

        Raises:
            ValueError: If a size or a choice does not fit it.
        """

    @abstractmethod
    def forward(self, pictures: Tensor) -> Tensor:
        """Turn pictures (B, 3, h, w), from -1 to 1 or standardised, into features (B, F)."""


ENCODERS: Registry[type[PictureEncoder]] = Registry(
    "hotloop.encoders",
    "picture encoder",
    {
        "conv": "conv_encoder:ConvEncoder",
        "resnet18": "resnet:ResNet18Encoder",
        "resnet18_relu": "resnet:ReluResNet18Encoder",
        "resnet18_folded": "folded_resnet:FoldedResNet18Encoder",
    },
    str(__package__),
)


def build_encoder(config: EncoderConfig, size: tuple[int, int]) -> PictureEncoder:
    """Build the encoder that `config` names.

    The name may come from a checkpoint of unknown origin, so only encoders are ever called.

    Raises:
        ValueError: If there is no such encoder, or a size or choice does not fit it.
        ImportError: If it is a plugin's, or one's own, and cannot be imported.
    """
    encoder = ENCODERS.get(config.kind)
    if not (isinstance(encoder, type) and issubclass(encoder, PictureEncoder)):
        raise ValueError(
            f"picture encoder {config.kind!r} is {encoder!r}; it must be a subclass of "
            "hotloop.policies.networks.PictureEncoder"
        )
    return encoder.build(config, size)


class SpatialSoftmax(nn.Module):
    """Where in a picture things are: the expected position of each of K softmax maps.

    Finn et al. 2016, "Deep Spatial Autoencoders for Visuomotor Learning", section IV.

    Args:
        channels: Channels of the feature maps.
        num_keypoints: Maps K, made by a convolution of size 1.
        size: Height and width of the feature maps.
    """

    positions: Tensor

    def __init__(self, channels: int, num_keypoints: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.maps = nn.Conv2d(channels, num_keypoints, 1)
        rows, columns = (torch.linspace(-1, 1, side) for side in size)
        grid = torch.meshgrid(rows, columns, indexing="ij")
        positions = torch.stack([grid[1].flatten(), grid[0].flatten()], dim=1)  # (h w, 2), x first
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Turn feature maps (B, C, h, w) into positions from -1 to 1, shape (B, K * 2)."""
        share = self.maps(features).flatten(2).softmax(dim=-1)  # (b, k, h w)
        return (share @ self.positions).flatten(1)


def group_norm(channels: int) -> nn.GroupNorm:
    """Normalisation over groups of 16 channels, which needs no statistics of a batch."""
    return nn.GroupNorm(max(channels // 16, 1), channels)
