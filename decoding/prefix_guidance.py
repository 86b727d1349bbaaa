"""Real-time chunking: a new chunk that agrees with what the robot does while it is computed.

Black, Galliker, Levine, "Real-Time Execution of Action Chunking Flow Policies" (arXiv 2506.07339):
denoising is guided so that the first actions equal those already committed, and the following
ones stay near the old plan. Written here for any Gaussian diffusion x = a x0 + s eps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

GUIDANCES = ("identity", "vjp")
MAX_WEIGHT = 5.0  # the paper's clip of the guidance weight


def prefix_weights(horizon: int, delay: int, num_execute: int) -> np.ndarray:
    """How much each new action is bound to the old plan, shape (H,), eq. 5 of the paper.

    One for the `delay` actions that run during inference, falling to zero for the last
    `num_execute`, about which the old plan says nothing.

    Raises:
        ValueError: Unless delay <= horizon - num_execute and all are sensible.
    """
    if not (0 <= delay <= horizon - num_execute and 1 <= num_execute <= horizon):
        raise ValueError(
            "real-time chunking needs 0 <= delay <= horizon - num_execute, got "
            f"delay {delay}, horizon {horizon} and num_execute {num_execute}"
        )
    index = np.arange(horizon)
    c = (horizon - num_execute - index) / (horizon - num_execute - delay + 1)  # (h,)
    soft = c * np.expm1(np.maximum(c, 0)) / np.expm1(1)
    return np.where(index < delay, 1.0, np.where(index < horizon - num_execute, soft, 0.0))


def guided_clean(
    predict_clean: Callable[[Tensor], Tensor],
    x: Tensor,
    old: Tensor,
    weights: Tensor,
    signal: float,
    guidance: str,
) -> Tensor:
    """Estimate of the clean actions, moved towards the old plan.

    With error e = weights (old - x0(x)), ``"vjp"`` adds w J^T e, where J is the derivative of x0
    by x: what the network knows about how actions hang together carries the correction on to
    the actions that are free. Its weight w = (a^2 + s^2) / a, at most 5, is the paper's for the
    path a = tau, s = 1 - tau. ``"identity"`` takes J as a times the identity, which is exact for a
    unit Gaussian: it blends in the old plan and needs no backward pass.

    Args:
        predict_clean: The network as a function from x to x0, both (B, H, D).
        x: Noisy actions, variance-preserving: signal^2 + sigma^2 = 1.
        old: The old plan, aligned in time, shape (B, H, D).
        weights: Shape (B, H, 1), from `prefix_weights`, zero where there is no old plan.
        signal: a of the present level.
        guidance: ``"identity"`` or ``"vjp"``.
    """
    if guidance not in GUIDANCES:
        raise ValueError(f"guidance must be one of {GUIDANCES}, got {guidance!r}")
    if guidance == "identity":
        clean = predict_clean(x)
        return clean + weights * (old - clean)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        clean = predict_clean(x)  # (b, h, d)
        error = weights * (old - clean.detach())
        (pull,) = torch.autograd.grad(clean, x, error)  # J^T e, (b, h, d)
    return clean.detach() + min(1 / max(signal, 1e-6), MAX_WEIGHT) * pull
