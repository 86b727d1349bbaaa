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
from torch import Tensor

from .constants import Constants

SQUARED_COSINE = "squaredcos_cap_v2"
BETA_SCHEDULES = (SQUARED_COSINE, "linear", "scaled_linear")
_FIRST_BETA, _LAST_BETA = 1e-4, 0.02


@dataclass(frozen=True)
class NoiseSchedule:
    """How much noise N levels add, by the names of `diffusers`.

    Attributes:
        num_levels: N, at least 1.
        betas: ``"squaredcos_cap_v2"`` (Nichol and Dhariwal 2021, eq. 17), ``"linear"`` (Ho et al.
            2020, section 4), or ``"scaled_linear"``, whose square roots are equally spaced.
        first_beta: Noise variance that the first level adds, of the linear ones; null is 1e-4.
        last_beta: The same of the last level; null is 0.02.
    """

    num_levels: int
    betas: str = SQUARED_COSINE
    first_beta: float | None = None
    last_beta: float | None = None

    def __post_init__(self) -> None:
        """Reject what is no schedule."""
        if self.num_levels < 1:
            raise ValueError(f"a noise schedule needs at least 1 level, got {self.num_levels}")
        if self.betas not in BETA_SCHEDULES:
            raise ValueError(
                f"a noise schedule is one of {', '.join(BETA_SCHEDULES)}, got {self.betas!r}"
            )
        ends = [beta for beta in (self.first_beta, self.last_beta) if beta is not None]
        if ends and self.betas == SQUARED_COSINE:
            raise ValueError(f"the schedule {SQUARED_COSINE} has no first or last beta, got {ends}")
        if not all(0 < beta < 1 for beta in ends):
            raise ValueError(f"first and last beta must be between 0 and 1, got {ends}")

    @cached_property
    def alpha_bar(self) -> np.ndarray:
        """Share of signal variance at levels 0..N, shape (N + 1,), float64; 1 at level 0."""
        return np.concatenate([[1.0], np.cumprod(1 - self._betas())])

    def _betas(self) -> np.ndarray:
        """Noise variance that each level adds, shape (N,), float64."""
        if self.betas == SQUARED_COSINE:
            time = np.arange(self.num_levels + 1) / self.num_levels  # (n + 1,)
            f = np.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
            return np.minimum(1 - f[1:] / f[:-1], 0.999)
        first, last = self.first_beta or _FIRST_BETA, self.last_beta or _LAST_BETA
        if self.betas == "linear":
            return np.linspace(first, last, self.num_levels)
        return np.linspace(math.sqrt(first), math.sqrt(last), self.num_levels) ** 2

    @cached_property
    def signals(self) -> np.ndarray:
        """Share of the clean action, a_k = sqrt(alpha_bar_k), shape (N + 1,), float64."""
        return np.sqrt(self.alpha_bar)

    @cached_property
    def sigmas(self) -> np.ndarray:
        """Standard deviation of the noise, s_k = sqrt(1 - alpha_bar_k), shape (N + 1,), float64."""
        return np.sqrt(1 - self.alpha_bar)

    @cached_property
    def _tables(self) -> Constants:
        arrays = {"signal": self.signals, "sigma": self.sigmas, "alpha_bar": self.alpha_bar}
        return Constants(arrays)

    def signal(self, level: Tensor) -> Tensor:
        """Return a_k of integer levels k of any shape, float32."""
        return self._tables.at("signal", level.device)[level].float()

    def sigma(self, level: Tensor) -> Tensor:
        """Return s_k of integer levels k of any shape, float32."""
        return self._tables.at("sigma", level.device)[level].float()

    def between(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """a_k and s_k of levels k that need not be integers, of any shape, float64.

        alpha_bar is interpolated linearly, so that a^2 + s^2 = 1, and there is a gradient.
        """
        alpha_bar = self._tables.at("alpha_bar", level.device)
        level = level.double()
        below = level.detach().floor().long().clamp(0, self.num_levels - 1)
        share = level - below
        squared = (1 - share) * alpha_bar[below] + share * alpha_bar[below + 1]
        return squared.sqrt(), (1 - squared).sqrt()

    def add_noise(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """Noise actions (B, H, D) to levels (B, H), each position to its own (Ho et al., eq. 4)."""
        return self.signal(level)[..., None] * clean + self.sigma(level)[..., None] * noise
