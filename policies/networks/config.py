"""Network choice and sizes as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Choices of a network that the U-Net alone reads.
UNET_CHOICES = (
    "level_embedding",
    "level_features",
    "level_dim",
    "dims",
    "kernel_size",
    "num_groups",
)
_LARGEST = 4096  # side [px] or number of an encoder; beyond it, memory ends


@dataclass(frozen=True)
class NetworkConfig:
    """Which denoiser and how large.

    Attributes:
        kind: ``"mlp"`` (residual), ``"unet"`` (1-D convolutions), ``"transformer"``, a plugin's
            network, or one's own as ``module:Name``.
        width: Features of the MLP, channels of the first U-Net level, transformer width.
        depth: Residual blocks, U-Net resolutions (channels double), transformer layers.
        level_embedding: ``"concatenated"``, as in the paper, ties the network to one horizon;
            ``"per_position"`` does not. A choice of the U-Net only; null is the paper's.
        max_angle: Angle of the fastest level feature [rad].
        level_features: ``"continuous"``, of `max_angle`; or ``"timesteps"``, those of networks
            that other projects train. A choice of the U-Net only, as are all below; null is
            ``"continuous"``.
        level_dim: Features of a noise level; null makes 64.
        dims: Channels per resolution; none are `width`, doubled `depth` - 1 times.
        kernel_size: Of the convolutions, odd; null is 5.
        num_groups: Of group normalisation, except in the head, which has 8; null is 8.
        options: Further choices of a network that is not hotloop's own.
    """

    kind: str = "mlp"
    width: int = 512
    depth: int = 3
    level_embedding: str | None = None
    max_angle: float = 6.0
    level_features: str | None = None
    level_dim: int | None = None
    dims: tuple[int, ...] = ()
    kernel_size: int | None = None
    num_groups: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reject sizes of no network."""
        for name in ("width", "depth", "level_dim", "kernel_size", "num_groups"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"network.{name} must be at least 1, got {value}")
        if self.dims:
            # What they stand for would be ignored.
            self.refuse("width", "depth")

    def refuse(self, *unread: str) -> None:
        """Raise ValueError if a choice was made that a network, of which these are, does not read.

        A network calls it with all the names that it has no use for.
        """
        _refuse("network", self, unread)


@dataclass(frozen=True)
class EncoderConfig:
    """How pictures become features: what is done to them, which encoder, and how large.

    Attributes:
        kind: ``"conv"`` (a few strided convolutions, for a CPU), ``"resnet18"``, what others
            trained as ``"resnet18_relu"`` or, with batch normalisation, ``"resnet18_folded"``, a
            plugin's encoder, or one's own as ``module:Name``.
        resize: Height and width [px] that every picture is brought to first; null leaves it.
        crop: Height and width [px] of the part that the encoder sees: at a random place in
            training, from the middle at run time; null shows all of it.
        crop_at: Row and column where it begins at run time; null is the middle.
        standardize: Whether colours are scaled by statistics that are among the weights, for each
            camera; where no file brings them, they do nothing.
        shared: Whether all cameras share one encoder.
        num_features: Features of one picture.
        num_keypoints: Points of a picture whose positions the features are made from.
        width: Channels of the first convolution of ``"conv"``; null is the encoder's own.
        options: Further choices of an encoder that is not hotloop's own.
    """

    kind: str = "conv"
    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    crop_at: tuple[int, int] | None = None
    standardize: bool = False
    shared: bool = False
    num_features: int = 64
    num_keypoints: int = 32
    width: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reject sizes of no picture and of no encoder."""
        for name in ("resize", "crop", "num_features", "num_keypoints", "width"):
            value = getattr(self, name)
            sizes = (value,) if isinstance(value, int) else value or (1,)
            if not 1 <= min(sizes) <= max(sizes) <= _LARGEST:
                raise ValueError(f"encoder.{name} must be between 1 and {_LARGEST}, got {value}")
        if self.crop_at is not None and (self.crop is None or min(self.crop_at) < 0):
            raise ValueError(
                f"encoder.crop_at is where encoder.crop {self.crop} begins, not before 0, got "
                f"{self.crop_at}; set both, or leave it out"
            )

    def refuse(self, *unread: str) -> None:
        """Raise ValueError if a choice was made that an encoder does not read, by these names."""
        _refuse("encoder", self, unread)


@dataclass(frozen=True)
class WindowSizes:
    """What a network looks at.

    Attributes:
        horizon: Window length H.
        action_dim: Action size D.
        observation_dim: Size of the flattened observation history C.
        jump: Whether the network is told how far one call moves the levels.
        num_levels: Noise levels N; 0 where they are no whole numbers.
    """

    horizon: int
    action_dim: int
    observation_dim: int
    jump: bool = False
    num_levels: int = 0


def _refuse(what: str, config: NetworkConfig | EncoderConfig, unread: tuple[str, ...]) -> None:
    """Raise ValueError if one of the `unread` choices of a network or encoder was made."""
    for name in unread:
        default = {} if name == "options" else getattr(type(config), name)
        if getattr(config, name) != default:
            raise ValueError(
                f"{what} {config.kind!r} has no choice {what}.{name}, got "
                f"{getattr(config, name)!r}; leave it out"
            )
