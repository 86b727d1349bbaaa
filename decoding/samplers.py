"""Reverse diffusion as pure functions: one level vector to the next, per position.

Every update here is affine in the noisy action x, the network output f and the clipped clean
estimate: ``x0 = p_x x + p_f f`` and ``x' = c_0 clip(x0) + c_x x + c_f f + c_z z``. `reverse_step`
is that line. `reverse` is the readable loop; engines take the same step from a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from .placed import placed
from .schedules import NoiseSchedule

PREDICTIONS = ("epsilon", "sample", "velocity")
UPDATES = ("ddpm", "ddim")
SPACINGS = ("even", "leading")

A = TypeVar("A", np.ndarray, Tensor)


class StepCoefficients(NamedTuple):
    """Coefficients of one reverse step, each of the shape of the level vector, float64."""

    p_x: np.ndarray
    p_f: np.ndarray
    c_0: np.ndarray
    c_x: np.ndarray
    c_f: np.ndarray
    c_z: np.ndarray

    def tensor(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """All six for actions whose last dimension is D: shape (6, ..., 1)."""
        return torch.as_tensor(np.stack(self), dtype=dtype)[..., None]


def step_coefficients(
    schedule: NoiseSchedule,
    level: np.ndarray,
    next_level: np.ndarray,
    prediction: str,
    update: str,
) -> StepCoefficients:
    """Coefficients that take positions from `level` to `next_level`, integers of one shape.

    A position whose level does not change is left as it is. DDIM is Song et al. 2021, eq. 12 with
    sigma 0; DDPM is the posterior of Ho et al. 2020, eq. 7, between any two levels. The velocity is
    that of Salimans and Ho 2022, ``v = a eps - s x0``.

    Raises:
        ValueError: If a level is out of range or rises, or a name is unknown.
    """
    if (next_level > level).any() or (next_level < 0).any() or (level > schedule.num_levels).any():
        raise ValueError(
            f"levels must fall within 0..{schedule.num_levels}, got {level} -> {next_level}"
        )
    if update not in UPDATES:
        raise ValueError(f"update must be one of {UPDATES}, got {update!r}")
    a, s = schedule.signals[level], schedule.sigmas[level]  # (..., h), as the levels
    a_next, s_next = schedule.signals[next_level], schedule.sigmas[next_level]
    zero = np.zeros_like(a)
    p_x, p_f, e_x, e_f = estimate_coefficients(prediction, a, s, np.where(s > 0, s, 1))
    if update == "ddim":
        c_0, c_x, c_f, c_z = a_next, s_next * e_x, s_next * e_f, zero
    else:
        ratio = schedule.alpha_bar[level] / schedule.alpha_bar[next_level]
        variance = np.where(s > 0, s**2, 1)
        c_0 = a_next * (1 - ratio) / variance
        c_x = np.sqrt(ratio) * s_next**2 / variance
        c_f = zero
        c_z = np.sqrt(s_next**2 / variance * (1 - ratio))
    still = level == next_level
    c_0, c_f, c_z = (np.where(still, 0, c) for c in (c_0, c_f, c_z))
    return StepCoefficients(p_x, p_f, c_0, np.where(still, 1, c_x), c_f, c_z)


def estimate_coefficients(prediction: str, a: A, s: A, divisor: A) -> tuple[A, A, A, A]:
    """What a network's output f says of its input x, as p_x, p_f, e_x and e_f.

    The clean estimate is ``x0 = p_x x + p_f f``, the noise ``eps = e_x x + e_f f``.

    Args:
        prediction: What f is.
        a: Signal at the levels of x, of any shape.
        s: Sigma there.
        divisor: Sigma where it is not 0, and what is divided by in its place elsewhere.

    Raises:
        ValueError: If the prediction is unknown.
    """
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction must be one of {PREDICTIONS}, got {prediction!r}")
    zero, one = 0 * a, 0 * a + 1
    return {
        "epsilon": (1 / a, -s / a, zero, one),
        "sample": (zero, one, 1 / divisor, -a / divisor),
        "velocity": (a, -s, s, a),
    }[prediction]


def prediction_target(
    schedule: NoiseSchedule, prediction: str, clean: Tensor, noise: Tensor, level: Tensor
) -> Tensor:
    """What a network should predict for `clean` (B, H, D) noised by `noise` to `level` (B, H).

    x0, eps (Ho et al. 2020, eq. 14) or v = a eps - s x0 (Salimans and Ho 2022).
    """
    if prediction == "sample":
        return clean
    if prediction == "epsilon":
        return noise
    signal = schedule.signal(level)[..., None]  # (b, h, 1)
    sigma = schedule.sigma(level)[..., None]  # (b, h, 1)
    return signal * noise - sigma * clean


def reverse_step(
    x: Tensor,
    output: Tensor,
    coefficients: Tensor,
    noise: Tensor | None = None,
    clip: float | None = 1.0,
    predicts_sample: bool = False,
) -> Tensor:
    """Carry noisy actions x one step on, with network output f, both (B, H, D).

    Args:
        x: Noisy actions.
        output: What the network predicts for them.
        coefficients: `StepCoefficients.tensor`, shape (6, H, 1) or (6, B, H, 1).
        noise: Standard normal z, shape (B, H, D), where the step adds any.
        clip: The clean estimate is clipped to [-clip, clip]; not at all if None.
        predicts_sample: Whether p_x = 0 and p_f = 1, so that the output is the clean estimate
            itself; for a small network every operation counts.
    """
    p_x, p_f, c_0, c_x, c_f, c_z = coefficients.unbind(0)  # each (h, 1) or (b, h, 1)
    x0 = output if predicts_sample else p_x * x + p_f * output  # (b, h, d)
    clipped = x0 if clip is None else x0.clamp(-clip, clip)
    result = c_0 * clipped + c_x * x + c_f * output
    return result if noise is None else result + c_z * noise


def apply_step(
    x: Tensor,
    output: Tensor,
    coefficients: StepCoefficients,
    noise: Tensor | None = None,
    clip: float | None = 1.0,
) -> Tensor:
    """`reverse_step` with coefficients of levels (H,) or (B, H), as `step_coefficients` gives."""
    return reverse_step(x, output, placed(coefficients.tensor(x.dtype), x.device), noise, clip)


def reverse(
    denoise: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    levels: Sequence[np.ndarray],
    schedule: NoiseSchedule,
    prediction: str = "epsilon",
    update: str = "ddim",
    generator: torch.Generator | None = None,
    clip: float | None = 1.0,
) -> Tensor:
    """Carry noisy actions along a sequence of level vectors, one network call between two.

    Args:
        denoise: Called with noisy actions (B, H, D) and integer levels (B, H).
        x: Actions noised to ``levels[0]``, shape (B, H, D).
        levels: Level vectors of shape (H,) or (B, H), none of them rising anywhere.
        schedule: Noise schedule.
        prediction: What `denoise` predicts.
        update: DDPM draws noise from `generator`; DDIM is deterministic.
        generator: Source of the DDPM noise.
        clip: Largest magnitude of a clean action; None does not clip.

    Returns:
        Actions at ``levels[-1]``, shape (B, H, D).
    """
    for level, next_level in pairwise(levels):
        coefficients = step_coefficients(schedule, level, next_level, prediction, update)
        there = placed(torch.as_tensor(level), x.device).expand(len(x), -1)
        output = denoise(x, there)  # (b, h, d)
        noise = None
        if update == "ddpm":
            noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = apply_step(x, output, coefficients, noise, clip)
    return x


def spaced_levels(start: int, stop: int, num_calls: int) -> np.ndarray:
    """Integer levels from `start` down to `stop` in `num_calls` steps as equal as possible.

    Raises:
        ValueError: If there are fewer levels than calls, or no call.
    """
    if not 1 <= num_calls <= start - stop:
        raise ValueError(
            f"number of calls must be between 1 and {start - stop} for levels {start} to {stop}, "
            f"got {num_calls}"
        )
    return start - np.round(np.arange(num_calls + 1) * (start - stop) / num_calls).astype(np.int64)


def sampling_levels(num_levels: int, num_calls: int, spacing: str) -> np.ndarray:
    """Integer levels from noise to 0 of a whole sampling in `num_calls` calls.

    Args:
        num_levels: N.
        num_calls: Network calls, at most N.
        spacing: ``"even"`` starts at level N, pure noise. ``"leading"`` is the default of
            `diffusers`, with which other projects' policies are sampled: levels are N // num_calls
            apart, the last one before 0 is 1, and the first may be well below N although what it
            is given is pure noise.

    Raises:
        ValueError: If there are fewer levels than calls, no call, or no such spacing.
    """
    if spacing not in SPACINGS:
        raise ValueError(f"spacing must be one of {SPACINGS}, got {spacing!r}")
    even = spaced_levels(num_levels, 0, num_calls)
    if spacing == "even":
        return even
    step = num_levels // num_calls
    return np.append(step * np.arange(num_calls)[::-1] + 1, 0)
