"""The transformer of ACT: attention that is told positions at every layer, as in DETR."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import ActConfig

_TEMPERATURE = 10_000.0  # ratio of the slowest to the fastest position feature


class Attention(nn.Module):
    """Multi-head attention with separate projections.

    Args:
        dim: Features of a token.
        num_heads: Heads.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.project = nn.Linear(dim, dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend from (B, Q, W) to (B, L, W); returns (B, Q, W)."""
        heads = [
            linear(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (b, heads, l, w / h)
            for linear, x in ((self.query, query), (self.key, key), (self.value, value))
        ]
        attended = F.scaled_dot_product_attention(*heads)  # (b, heads, q, w / heads)
        return self.project(attended.transpose(1, 2).flatten(2))


class Residual(nn.Module):
    """A sum that is normalised before its branch reads it, or after.

    Args:
        config: Whether it is `pre_norm`.
    """

    def __init__(self, config: ActConfig) -> None:
        super().__init__()
        self.norm, self.pre_norm = nn.LayerNorm(config.dim), config.pre_norm

    def read(self, x: Tensor) -> Tensor:
        """What the branch sees of (B, L, W)."""
        return self.norm(x) if self.pre_norm else x

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        """The sum with what the branch made of it."""
        return x + branch if self.pre_norm else self.norm(x + branch)


class FeedForward(nn.Module):
    """The MLP at the end of a layer, with its residual.

    Args:
        config: Sizes and activation.
    """

    def __init__(self, config: ActConfig) -> None:
        super().__init__()
        self.residual = Residual(config)
        self.expand = nn.Linear(config.dim, config.dim_feedforward)
        self.contract = nn.Linear(config.dim_feedforward, config.dim)
        self.activate = F.gelu if config.activation == "gelu" else F.relu

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, L, W)."""
        hidden = self.activate(self.expand(self.residual.read(x)))
        return self.residual.add(x, self.contract(hidden))


class EncoderLayer(nn.Module):
    """Self-attention and MLP; positions count for who attends to whom, not for what is read.

    Args:
        config: Sizes and choices.
    """

    def __init__(self, config: ActConfig) -> None:
        super().__init__()
        self.attention, self.residual = Attention(config.dim, config.num_heads), Residual(config)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Map tokens (B, L, W), `positions` being (L, W)."""
        seen = self.residual.read(x)
        placed = seen + positions
        return self.feed_forward(self.residual.add(x, self.attention(placed, placed, seen)))


class DecoderLayer(nn.Module):
    """Self-attention of the actions, attention to the encoded observation, MLP.

    Args:
        config: Sizes and choices.
    """

    def __init__(self, config: ActConfig) -> None:
        super().__init__()
        self.attention, self.residual = Attention(config.dim, config.num_heads), Residual(config)
        self.cross_attention = Attention(config.dim, config.num_heads)
        self.cross_residual = Residual(config)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, queries: Tensor, memory: Tensor, placed: Tensor) -> Tensor:
        """Map actions (B, C, W).

        Args:
            x: Actions so far.
            queries: Their positions, shape (C, W).
            memory: Encoded observation, shape (B, L, W).
            placed: The same with its positions.
        """
        seen = self.residual.read(x)
        x = self.residual.add(x, self.attention(seen + queries, seen + queries, seen))
        # What depends on the weights alone has one row up to here, and a runtime computes it once.
        seen = (self.cross_residual.read(x) + queries).expand(memory.shape[0], -1, -1)
        x = self.cross_residual.add(x, self.cross_attention(seen, placed, memory))
        return self.feed_forward(x)


def picture_positions(height: int, width: int, dim: int) -> Tensor:
    """Codes of the cells of a feature map, row by row, shape (height * width, dim).

    Sines and cosines of the row, then of the column, each counted from 1 and scaled to a turn.
    """
    half = dim // 2
    exponent = 2 * (torch.arange(half) // 2) / half
    frequencies = _TEMPERATURE**exponent  # (half,)
    codes = []
    for side in (height, width):
        turn = torch.arange(1, side + 1) / (side + 1e-6) * 2 * math.pi
        angle = turn[:, None] / frequencies  # (side, half)
        code = torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=-1).flatten(1)
        codes.append(code)
    rows = codes[0][:, None].expand(height, width, half)
    columns = codes[1][None].expand(height, width, half)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)
