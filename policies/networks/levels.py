"""Embedding of noise levels with frequencies low enough to distil through."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LevelEmbedding(nn.Module):
    """Sinusoidal features of a noise level in [0, 1].

    The angle of the fastest feature over the whole range, `max_angle`, is what matters: the
    usual embedding of integer steps spans about 100 rad, and every objective that compares
    neighbouring levels suffers from it; 6 rad serve all of them.

    Args:
        dim: Number of features, even.
        max_angle: Angle of the fastest feature at level 1 [rad].
    """

    def __init__(self, dim: int, max_angle: float = 6.0) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise ValueError(f"level embedding needs an even number of features, got {dim}")
        exponents = torch.arange(dim // 2) / max(dim // 2 - 1, 1)
        frequencies = max_angle * torch.exp(-math.log(max_angle) * exponents)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, level: Tensor) -> Tensor:
        """Embed `level` of any shape (...) as features of shape (..., dim)."""
        angle = level[..., None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], dim=-1)
