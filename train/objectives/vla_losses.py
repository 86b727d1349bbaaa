"""Losses and labels of token policies: cloning, consistency, and which teacher to believe."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from ...decoding.jacobi import leading_agreement


def cloning_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of tokens; logits (B, n, V) given the labels before, labels (B, n).

    L_AR = -sum_i log Q(y_i | y_<i, x) of CEED-VLA, as a mean over tokens.
    """
    flat = rearrange(logits.float(), "b n v -> (b n) v")
    return functional.cross_entropy(flat, rearrange(labels, "b n -> (b n)"))


def consistency_loss(
    on_iterate: Tensor, on_fixed: Tensor, iterate: Tensor, fixed: Tensor
) -> Tensor:
    """Forward KL that makes any Jacobi iterate predict what the fixed point predicts (CEED-VLA).

    L_C = sum_i KL(Q_sg(. | y*_<i, x) || Q(. | y_<i, x)): the target is the model's own prediction
    behind the fixed point's prefix, without gradient.
    Tokens up to the first wrong one have the same prefix in both, so their divergence is zero;
    they are left out of the mean instead of diluting it (CLLM).

    Args:
        on_iterate: Logits behind the iterate's prefixes, shape (B, n, V).
        on_fixed: Logits behind the fixed point's prefixes, shape (B, n, V).
        iterate: Jacobi iterate, shape (B, n).
        fixed: Fixed point, shape (B, n).
    """
    target = functional.log_softmax(on_fixed.detach().float(), dim=-1)  # (b, n, v)
    predicted = functional.log_softmax(on_iterate.float(), dim=-1)
    divergence = (target.exp() * (target - predicted)).sum(dim=-1)  # (b, n)
    behind = torch.arange(fixed.shape[1], device=fixed.device)  # (n,)
    counted = behind > leading_agreement(iterate, fixed)[:, None]  # (b, n)
    # `where`, so that what is left out cannot even contribute a rounding error or a NaN.
    total = torch.where(counted, divergence, divergence.new_zeros(())).sum()
    return total / counted.sum().clamp(min=1)


class MixedLabels(NamedTuple):
    """Targets of the autoregressive loss.

    Attributes:
        tokens: Shape (N, n).
        replaced: Where the demonstration stands in for the teacher, shape (N,).
    """

    tokens: Tensor
    replaced: Tensor


def mixed_labels(
    teacher: Tensor, demonstration: Tensor, distance: Tensor, max_distance: float
) -> MixedLabels:
    """The teacher's chunk, unless it lies too far from the demonstrated one (CEED-VLA, Alg. 1).

    Args:
        teacher: The teacher's fixed points, shape (N, n).
        demonstration: Tokens of the demonstrated actions, shape (N, n).
        distance: Distance of the two chunks, shape (N,), e.g. from `chunk_distance`.
        max_distance: Largest distance at which the teacher is believed, delta_max; infinity
            believes it always, 0 only where it agrees.
    """
    if not max_distance >= 0:
        raise ValueError(f"max_distance (delta_max) must be 0 or more, got {max_distance}")
    replaced = distance > max_distance
    return MixedLabels(torch.where(replaced[:, None], demonstration, teacher), replaced)


def chunk_distance(teacher: Tensor, demonstration: Tensor) -> Tensor:
    """Mean absolute difference of two chunks of normalised actions (N, n), shape (N,)."""
    return (teacher - demonstration).abs().mean(dim=1)


def distance_quantile(distance: Tensor, quantile: float) -> float:
    """The delta_max that a share `quantile` of the chunks stays within; 1 gives infinity.

    Raises:
        ValueError: If the quantile is no share.
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"label_quantile must be between 0 and 1, got {quantile}")
    return float("inf") if quantile == 1 else float(distance.double().quantile(quantile))
