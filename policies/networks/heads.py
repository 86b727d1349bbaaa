"""Small networks around a denoiser: inverse dynamics, critic, and the value of a noisy plan."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .levels import LevelEmbedding


class Regressor(nn.Module):
    """Two hidden layers on concatenated inputs: inverse dynamics and critic.

    Args:
        input_dim: Features of all inputs together.
        output_dim: Features of the output, linear.
        width: Features of a hidden layer.
    """

    def __init__(self, input_dim: int, output_dim: int, width: int) -> None:
        super().__init__()
        self.input = nn.Linear(input_dim, width)
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, output_dim)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map inputs of shape (..., F_i) to (..., output_dim)."""
        x = F.relu(self.input(torch.cat(inputs, dim=-1)))
        return self.output(F.relu(self.hidden(x)))


class PlanValue(nn.Module):
    """Expected return of a noisy plan, with its gradient written out.

    The gradient is part of the forward computation, so that a compiled graph can contain it.

    Args:
        horizon: Window length H.
        dim: Features per position D.
        width: Features of a hidden layer.
        level_dim: Sinusoidal features per noise level.
    """

    reads_weights = True  # of its layers, so that an engine must leave them as they are

    def __init__(self, horizon: int, dim: int, width: int, level_dim: int = 16) -> None:
        super().__init__()
        self.shape = (horizon, dim)
        self.features = LevelEmbedding(level_dim)
        self.input = nn.Linear(horizon * dim, width)
        self.level_input = nn.Linear(level_dim, width, bias=False)
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, 1)

    def embed_level(self, level: Tensor) -> Tensor:
        """Level term of the first layer (B, W) for noise levels in [0, 1] of shape (B,)."""
        return self.level_input(self.features(level))

    def forward(self, x: Tensor, level_term: Tensor) -> Tensor:
        """Value (B,) of windows x (B, H, D)."""
        first = F.silu(self.input(x.flatten(1)) + level_term)  # (b, w)
        return self.output(F.silu(self.hidden(first)))[:, 0]

    def gradient(self, x: Tensor, level_term: Tensor) -> Tensor:
        """Gradient of the value with respect to x, shape (B, H, D)."""
        # The chain rule, from the output weights (1, w) back to the window.
        first = self.input(x.flatten(1)) + level_term  # (b, w)
        second = self.hidden(F.silu(first))  # (b, w)
        flow = (self.output.weight * _silu_slope(second)) @ self.hidden.weight  # (b, w)
        return ((flow * _silu_slope(first)) @ self.input.weight).unflatten(1, self.shape)


def _silu_slope(x: Tensor) -> Tensor:
    gate = x.sigmoid()
    return gate * (1 + x * (1 - gate))
