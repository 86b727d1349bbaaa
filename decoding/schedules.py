"""Noise schedules: how much signal is left at each noise level.

Levels are integers k: 0 is clean, N is (almost) pure noise. A noisy action is
``A_k = signal(k) A_0 + sigma(k) eps``. The integer k is the timestep k - 1 of DDPM and of
`diffusers`, whose "-1" is our 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseSchedule:
    """Squared-cosine schedule (Nichol and Dhariwal 2021, eq. 17) over N levels.

    Attributes:
        num_levels: N, at least 1.
    """

    num_levels: int

    def __post_init__(self) -> None:
        """Reject a schedule without a level."""
        if self.num_levels < 1:
            raise ValueError(f"a noise schedule needs at least 1 level, got {self.num_levels}")

    @cached_property
    def alpha_bar(self) -> np.ndarray:
        """Share of signal variance at levels 0..N, shape (N + 1,), float64; 1 at level 0."""
        time = np.arange(self.num_levels + 1) / self.num_levels  # (n + 1,)
        f = np.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = np.minimum(1 - f[1:] / f[:-1], 0.999)  # (n,)
        return np.concatenate([[1.0], np.cumprod(1 - betas)])

    @cached_property
    def signals(self) -> np.ndarray:
        """Share of the clean action, a_k = sqrt(alpha_bar_k), shape (N + 1,), float64."""
        return np.sqrt(self.alpha_bar)

    @cached_property
    def sigmas(self) -> np.ndarray:
        """Standard deviation of the noise, s_k = sqrt(1 - alpha_bar_k), shape (N + 1,), float64."""
        return np.sqrt(1 - self.alpha_bar)

    def signal(self, level: Tensor) -> Tensor:
        """Return a_k of integer levels k of any shape, float32."""
        return torch.as_tensor(self.signals, device=level.device)[level].float()

    def sigma(self, level: Tensor) -> Tensor:
        """Return s_k of integer levels k of any shape, float32."""
        return torch.as_tensor(self.sigmas, device=level.device)[level].float()

    def add_noise(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """Noise actions (B, H, D) to levels (B, H), each position to its own (Ho et al., eq. 4)."""
        return self.signal(level)[..., None] * clean + self.sigma(level)[..., None] * noise
