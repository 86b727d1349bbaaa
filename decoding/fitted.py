"""Samplers of few steps whose numbers are fitted to what many steps of the same network find.

A step is DDIM's, from one level to the next, and a correction by this and the last clean estimate:

    x' = DDIM(x) + w ((g - 1) D + b (D - D_last)),   w = a' - (s' / s) a.

The scalars of each step are its level k, gain g and memory b (compare Learnable Sampler
Distillation, arXiv 2509.19962, and S4S, arXiv 2502.17423). With gain 1, memory 0 is DDIM (Song et
al. 2021, eq. 12). Memory h_i / (2 h_(i-1)) with steps h in log(a / s), and 0 in the first and the
last step, is DPM-Solver++(2M) (Lu et al. 2022, algorithm 2).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from .samplers import estimate_coefficients
from .schedules import NoiseSchedule

FITTED = "fitted"


def ddim_scalars(levels: np.ndarray) -> Tensor:
    """Scalars with which fitted steps are DDIM's.

    Args:
        levels: Integer levels of the calls and 0, falling, shape (n + 1,).

    Returns:
        Level, gain and memory of each call, shape (3, n), float64.
    """
    level = torch.as_tensor(levels[:-1], dtype=torch.float64)
    return torch.stack([level, torch.ones_like(level), torch.zeros_like(level)])


def check_falling(schedule: NoiseSchedule, level: Tensor) -> None:
    """Raise ValueError unless the levels of fitted steps, shape (n,), fall between N and 0."""
    levels = [float(one) for one in level]
    falls = all(one > following for one, following in pairwise([*levels, 0.0]))
    if not falls or levels[0] > schedule.num_levels:
        raise ValueError(
            f"levels of fitted steps must fall from at most {schedule.num_levels} to above 0, got "
            f"{levels}"
        )


def fitted_coefficients(schedule: NoiseSchedule, scalars: Tensor, prediction: str) -> Tensor:
    """Coefficients of `fitted_step` for each call; the gradient reaches the scalars.

    Args:
        schedule: Noise schedule.
        scalars: Level, gain and memory of each call, shape (3, n); levels fall, see
            `check_falling`, and after the last comes 0.
        prediction: What the network predicts.

    Returns:
        p_x, p_f, c_0, c_x, c_f as of `StepCoefficients`, and c_m of the last clean estimate, of
        each call, shape (n, 6), float64.

    Raises:
        ValueError: If the prediction is unknown.
    """
    level, gain, memory = scalars.double().unbind(0)  # (n,)
    following = torch.cat([level[1:], level.new_zeros(1)])
    a, s = schedule.between(level)
    a_next, s_next = schedule.between(following)
    p_x, p_f, e_x, e_f = estimate_coefficients(prediction, a, s, s)
    weight = a_next - s_next / s * a  # w, of the clean estimate in DDIM
    c_0 = a_next + weight * (gain - 1 + memory)
    return torch.stack([p_x, p_f, c_0, s_next * e_x, s_next * e_f, -weight * memory], dim=1)


def fitted_step(
    x: Tensor,
    output: Tensor,
    last: Tensor,
    coefficients: Tensor,
    clip: float | None = 1.0,
    predicts_sample: bool = False,
) -> tuple[Tensor, Tensor]:
    """Carry noisy actions x one step on, with network output f, both (B, H, D).

    Args:
        x: Noisy actions.
        output: What the network predicts for them.
        last: Clean estimate of the step before, shape (B, H, D); any finite one before the first.
        coefficients: Of this step, as `fitted_coefficients` gives them, shape (6,).
        clip: The clean estimate is clipped to [-clip, clip]; not at all if None.
        predicts_sample: Whether the output is the clean estimate itself.

    Returns:
        The next x, and the clean estimate to remember, both (B, H, D).
    """
    p_x, p_f, c_0, c_x, c_f, c_m = coefficients.unbind(0)
    x0 = output if predicts_sample else p_x * x + p_f * output  # (b, h, d)
    clean = x0 if clip is None else x0.clamp(-clip, clip)
    return c_0 * clean + c_x * x + c_f * output + c_m * last, clean
