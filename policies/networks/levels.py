"""Embedding of noise levels with frequencies low enough to distil through."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LevelEmbedding(nn.Module):
    """Sinusoidal features of a noise level in [0, 1].

    The angle of the fastest feature over the whole range, `max_angle`, is what matters: the
    usual embedding of integer steps spans about 100 rad, and every objective that compares
    neighbouring levels suffers from it; 6 rad serve all of them.

    Args:
        dim: Number of features, even.
        max_angle: Angle of the fastest feature at level 1 [rad].
    """

    frequencies: Tensor

    def __init__(self, dim: int, max_angle: float = 6.0) -> None:
        super().__init__()
        self.dim = dim
        if dim < 2 or dim % 2:
            raise ValueError(f"level embedding needs an even number of features, got {dim}")
        exponents = torch.arange(dim // 2) / max(dim // 2 - 1, 1)
        frequencies = max_angle * torch.exp(-math.log(max_angle) * exponents)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, level: Tensor) -> Tensor:
        """Embed `level` of any shape (...) as features of shape (..., dim)."""
        angle = level[..., None] * self.frequencies  # (..., dim / 2)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def jump(self, jump: Tensor) -> Tensor:
        """Embed jumps of shape (B,) as features (B, dim) that are all 0 for a jump of 0."""
        return self(jump) - self(torch.zeros_like(jump))


class TimestepEmbedding(LevelEmbedding):
    """Sinusoidal features of the integer timesteps of Diffusion Policy's own networks.

    Level k of N is their timestep k - 1 (Vaswani et al. 2017, section 3.5, from 1 rad per step on
    down to 1e-4).

    Args:
        dim: Number of features, even, at least 4.
        num_levels: N.
    """

    def __init__(self, dim: int, num_levels: int) -> None:
        super().__init__(dim)
        if dim < 4 or num_levels < 1:
            raise ValueError(
                "timestep features need at least 4 numbers and 1 noise level, got "
                f"{dim} and {num_levels}"
            )
        self.num_levels = num_levels
        rate = math.log(10000) / (dim // 2 - 1)
        self.frequencies.copy_(torch.exp(torch.arange(dim // 2) * -rate))

    def forward(self, level: Tensor) -> Tensor:
        """Embed `level`, from 0 to 1, of any shape (...) as features of shape (..., dim)."""
        timestep = torch.round(level * self.num_levels) - 1
        angle = timestep[..., None] * self.frequencies  # (..., dim / 2)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class LevelEncoder(nn.Module):
    """Two-layer MLP on the sinusoidal features of noise levels.

    Args:
        features: Turns levels into features, as many as the size E of the embedding.
        horizon: Window length H whose H features are joined into one embedding, as in the
            Streaming Diffusion Policy; None embeds each position by itself, for any length.
        jump: Whether the encoder is told how far one call moves the levels.
    """

    def __init__(self, features: LevelEmbedding, horizon: int | None, jump: bool) -> None:
        super().__init__()
        dim = features.dim
        self.joined = horizon is not None
        self.features = features
        self.input = nn.Linear(dim * (horizon or 1), 4 * dim)
        self.output = nn.Linear(4 * dim, dim)
        # Without bias, so that jump 0 stays the same as no jump throughout training.
        self.jump_input = nn.Linear(dim, 4 * dim, bias=False) if jump else None
        if self.jump_input is not None:
            # Starts silent, so a student begins as an exact copy of its teacher.
            nn.init.zeros_(self.jump_input.weight)

    def forward(self, level: Tensor, jump: Tensor | None = None) -> Tensor:
        """Embed levels (B, H) and jumps (B,) as (B, 1, E) if joined, else as (B, H, E)."""
        features = self.features(level)  # (b, h, dim)
        hidden = self.input(features.flatten(1).unsqueeze(1) if self.joined else features)
        if jump is not None:
            if self.jump_input is None:
                raise ValueError("this network was built without jump conditioning (jump=False)")
            hidden = hidden + self.jump_input(self.features.jump(jump)).unsqueeze(1)
        return self.output(F.mish(hidden))
