"""What an ACT model is made of, and how its chunks are executed: plain data."""

from __future__ import annotations

from dataclasses import dataclass

ACTIVATIONS = ("relu", "gelu")
_LARGEST_EXPONENT = 80.0  # exp of more is infinite in float32


@dataclass(frozen=True)
class ActConfig:
    """Everything needed to rebuild an `ActModel` before its weights are loaded.

    Attributes:
        chunk_size: Actions C of one network call.
        dim: Features of a token, a multiple of 4 and of the heads.
        num_heads: Attention heads.
        dim_feedforward: Features between the two layers of each MLP.
        num_encoder_layers: Layers that observations pass.
        num_decoder_layers: Layers that turn them into actions.
        activation: ``"relu"`` or ``"gelu"``.
        pre_norm: Whether a layer normalises what it reads, rather than what it wrote.
    """

    chunk_size: int = 100
    dim: int = 512
    num_heads: int = 8
    dim_feedforward: int = 3200
    num_encoder_layers: int = 4
    num_decoder_layers: int = 1
    activation: str = "relu"
    pre_norm: bool = False

    def __post_init__(self) -> None:
        """Reject sizes and choices of no model."""
        for name in ("chunk_size", "num_heads", "dim_feedforward", "num_decoder_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_encoder_layers < 0:
            raise ValueError(f"num_encoder_layers must be 0 or more, got {self.num_encoder_layers}")
        # A fourth each are sines and cosines of height and of width.
        if self.dim < 4 or self.dim % 4 or self.dim % self.num_heads:
            raise ValueError(
                f"dim must be a multiple of 4 and of num_heads {self.num_heads}, got {self.dim}"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {ACTIVATIONS}, got {self.activation!r}")


@dataclass(frozen=True)
class ActSampling:
    """How chunks are executed: choices that need no training and can change per run.

    Attributes:
        num_execute: Actions executed per chunk.
        temporal_ensemble: Average all chunks that hold an action for the same control step, a newer
            chunk weighing exp(-m) of the one before it: this is m; null executes each chunk as it
            is. A chunk is made at every control step, so `num_execute` must be 1.
    """

    num_execute: int = 1
    temporal_ensemble: float | None = None

    def __post_init__(self) -> None:
        """Reject numbers that are none."""
        if self.num_execute < 1:
            raise ValueError(f"num_execute must be at least 1, got {self.num_execute}")
        if self.temporal_ensemble is not None and self.num_execute != 1:
            raise ValueError(
                "temporal_ensemble averages chunks of every control step, so it needs num_execute "
                f"1, got {self.num_execute}; set sampling.num_execute=1, or "
                "sampling.temporal_ensemble=null"
            )

    def check(self, config: ActConfig) -> None:
        """Raise ValueError if a model's chunks cannot be executed this way."""
        if self.num_execute > config.chunk_size:
            raise ValueError(
                f"num_execute must be between 1 and {config.chunk_size}, the actions of a chunk, "
                f"got {self.num_execute}"
            )
        most = _LARGEST_EXPONENT / config.chunk_size
        # Written so that NaN, which fails every comparison, is refused.
        if self.temporal_ensemble is not None and not self.temporal_ensemble >= -most:
            raise ValueError(
                f"temporal_ensemble must be at least {-most:g} for chunks of {config.chunk_size} "
                f"actions, got {self.temporal_ensemble}; smaller ones overflow"
            )
