"""Pairing of noise and actions within a batch, so that paths from one to the other cross less.

Optimal assignment of a whole batch's noise to its actions (Immiscible Diffusion, arXiv 2406.12303)
shortens their paths, but noise then tells what was observed: p(noise | o) is no longer N(0, I),
which sampling starts from. Noise is exchanged between samples of like observation alone here
(compare COT Policy, ansocho.github.io/cot-policy, and "The Curse of Conditions", arXiv 2503.10636):
as far as observations of a group are the same, exchanging independent draws within it leaves each
observation's noise N(0, I).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...policies.diffusion.model import DiffusionModel
from ..config.policies import Coupling

GROUP_SIZE = 8  # at a batch of 256: 32 neighbourhoods of observations


def check_coupling(coupling: Coupling, model: DiffusionModel) -> None:
    """Raise ValueError if a model observes nothing by which samples could be grouped."""
    if coupling == "conditional" and not model.vector_keys:
        raise ValueError(
            "policy.coupling=conditional pairs noise among samples of like observation vectors, "
            "and this policy observes pictures alone; leave it out, or add a vector to what is "
            "observed, such as the robot's joint positions"
        )


def like_groups(condition: np.ndarray, size: int) -> list[np.ndarray]:
    """Split samples into groups of neighbours, by halves of the widest coordinate.

    Args:
        condition: What was observed, normalised, shape (B, C).
        size: Largest size of a group.

    Returns:
        Indices of each group; together every sample once.
    """
    groups, waiting = [], [np.arange(len(condition))]
    while waiting:
        rows = waiting.pop()
        if len(rows) <= size:
            groups.append(rows)
            continue
        values = condition[rows]
        axis = np.ptp(values, axis=0).argmax()
        ordered = rows[values[:, axis].argsort(kind="stable")]
        # Whole groups on either side, so that only one is smaller than the others.
        half = -(-len(rows) // size) // 2 * size
        waiting += [ordered[:half], ordered[half:]]
    return groups


@torch.no_grad()
def coupled(noise: Tensor, clean: Tensor, condition: Tensor, size: int = GROUP_SIZE) -> Tensor:
    """The same noise in another order: within groups of like observation, nearest to actions.

    Nothing is drawn, so that a run that is resumed pairs as it would have. Assignments are found on
    the host, by SciPy: what is on a GPU is waited for.

    Args:
        noise: Independent draws, n of each sample, shape (B, n, H, D). Each of the n is paired by
            itself.
        clean: Normalised actions, shape (B, H, D).
        condition: What was observed, normalised, shape (B, C).
        size: Samples of a group; 1 leaves the noise as it is, B knows no observation.

    Returns:
        Noise of each sample, shape (B, n, H, D).
    """
    from scipy.optimize import linear_sum_assignment

    actions = clean.cpu().flatten(1).numpy()
    draws = noise.cpu().flatten(2).transpose(0, 1).numpy()  # (n, b, h * d)
    order = np.tile(np.arange(len(noise)), (len(draws), 1))
    for rows in like_groups(condition.cpu().numpy(), size):
        for draw, paired in zip(draws, order, strict=True):
            # Squares stay what they are in any order, so the nearest have the largest products.
            _, chosen = linear_sum_assignment(actions[rows] @ draw[rows].T, maximize=True)
            paired[rows] = rows[chosen]
    which = torch.from_numpy(order.T).to(noise.device)  # (b, n)
    return noise[which, torch.arange(len(draws), device=noise.device)]
