"""Network choice and sizes as data."""

from __future__ import annotations

from dataclasses import dataclass

from .denoiser import Denoiser
from .mlp import MLPDenoiser
from .transformer import TransformerDenoiser
from .unet1d import UNet1DDenoiser

KINDS = ("mlp", "unet", "transformer")


@dataclass(frozen=True)
class NetworkConfig:
    """Which denoiser and how large; each network reads the fields that concern it.

    Attributes:
        kind: ``"mlp"`` (residual), ``"unet"`` (1-D convolutions) or ``"transformer"``.
        width: Features of the MLP, channels of the first U-Net level, transformer width.
        depth: Residual blocks, U-Net resolutions (channels double), transformer layers.
        level_embedding: ``"concatenated"``, as in the paper, ties the network to one horizon;
            ``"per_position"`` does not. A choice of the U-Net: the MLP, which flattens the window,
            always concatenates, the transformer never does.
        max_angle: Angle of the fastest level feature [rad].
    """

    kind: str = "mlp"
    width: int = 512
    depth: int = 3
    level_embedding: str = "concatenated"
    max_angle: float = 6.0


def build_network(
    config: NetworkConfig, *, horizon: int, action_dim: int, observation_dim: int, jump: bool
) -> Denoiser:
    """Build the network that `config` names.

    Raises:
        ValueError: If a size does not fit the network.
    """
    if config.kind == "mlp":
        return MLPDenoiser(
            horizon,
            action_dim,
            observation_dim,
            width=config.width,
            num_blocks=config.depth,
            max_angle=config.max_angle,
            jump=jump,
        )
    if config.kind == "unet":
        return UNet1DDenoiser(
            horizon,
            action_dim,
            observation_dim,
            dims=tuple(config.width * 2**level for level in range(config.depth)),
            level_embedding=config.level_embedding,
            max_angle=config.max_angle,
            jump=jump,
        )
    if config.kind == "transformer":
        return TransformerDenoiser(
            action_dim,
            observation_dim,
            width=config.width,
            num_layers=config.depth,
            max_angle=config.max_angle,
            jump=jump,
        )
    raise ValueError(f"network kind must be one of {KINDS}, got {config.kind!r}")
