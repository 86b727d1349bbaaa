"""Constraints and guidance of a reverse process: pinned positions, conditions, values.

A position that is known, as the current state or a goal, is *pinned*: its noise level is 0 in
every level vector, so that no update moves it and the network sees it clean. Diffuser's
inpainting (Janner et al. 2022) is this choice of levels and nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from .schedules import NoiseSchedule


def pinned_levels(levels: Sequence[int], horizon: int, pinned: Sequence[int]) -> list[np.ndarray]:
    """Level vectors of shape (H,), one per level, that are 0 at the `pinned` positions."""
    vectors = [np.full(horizon, level) for level in levels]
    for vector in vectors:
        vector[list(pinned)] = 0
    return vectors


def classifier_free(
    denoise: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    conditional: Tensor,
    unconditional: Tensor,
    weight: float | Tensor,
) -> Tensor:
    """Extrapolate from the unconditional to the conditional prediction.

    Ho and Salimans 2022, eq. 6, ``(1 + w') f_c - w' f_u``, whose weight w' is w - 1 here. Both
    passes are one batch. Weights 0 and 1 need only one of the passes and make only that one.

    Args:
        denoise: Called with x (B, H, D) and modulations (B, ...).
        x: Noisy window, shape (B, H, D).
        conditional: Modulation of the condition, shape (B, ...).
        unconditional: Modulation of no condition, shape (B, ...).
        weight: w in ``f_u + w (f_c - f_u)``, a number or of shape (B, 1, 1).
    """
    if not isinstance(weight, Tensor) and weight in (0, 1):
        return denoise(x, conditional if weight == 1 else unconditional)
    both = denoise(torch.cat([x, x]), torch.cat([conditional, unconditional]))  # (2 b, h, d)
    rows = x.shape[0]
    return both[rows:] + weight * (both[:rows] - both[rows:])


def value_guidance(
    x: Tensor,
    gradient: Callable[[Tensor], Tensor],
    step_size: Tensor,
    num_steps: int,
) -> Tensor:
    """Move a window (B, H, D) up the gradient of a value (Diffuser, algorithm 1).

    Args:
        x: Window after a reverse step.
        gradient: Gradient of the value at a window, shape (B, H, D).
        step_size: Scale times posterior variance per position, shape (1, H, 1); 0 where pinned.
        num_steps: Gradient steps.
    """
    for _ in range(num_steps):
        x = x + step_size * gradient(x)
    return x


def posterior_variance(
    schedule: NoiseSchedule, level: np.ndarray, next_level: np.ndarray
) -> np.ndarray:
    """Variance of the DDPM posterior from `level` to `next_level` (Ho et al., eq. 7), float64.

    A position whose level does not change has none. The variance, not its root, scales Diffuser's
    gradients.
    """
    alpha_bar, next_alpha_bar = schedule.alpha_bar[level], schedule.alpha_bar[next_level]
    variance = np.where(level > 0, 1 - alpha_bar, 1.0)
    posterior = (1 - next_alpha_bar) / variance * (1 - alpha_bar / next_alpha_bar)
    return np.where(level == next_level, 0.0, posterior)
