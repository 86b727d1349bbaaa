"""Pairing of noise and actions within a batch, so that paths from one to the other cross less.

Optimal assignment of a whole batch's noise to its actions (Immiscible Diffusion, arXiv 2406.12303)
shortens their paths, but noise then tells what was observed: p(noise | o) is no longer N(0, I),
which sampling starts from. Noise is exchanged between samples of like observation alone here
(compare "The Curse of Conditions", arXiv 2503.10636): as far as observations of a group are the
same, exchanging independent draws within it leaves each observation's noise N(0, I).
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def like_groups(condition: Tensor, size: int) -> list[Tensor]:
    """Split samples into groups of neighbours, by halves of the widest coordinate.

    Args:
        condition: What was observed, normalised, shape (B, C).
        size: Largest size of a group.

    Returns:
        Indices of each group; together every sample once.
    """
    groups, waiting = [], [torch.arange(len(condition))]
    while waiting:
        rows = waiting.pop()
        if len(rows) <= size:
            groups.append(rows)
            continue
        values = condition[rows]
        axis = int((values.amax(0) - values.amin(0)).argmax())
        ordered = rows[values[:, axis].argsort(stable=True)]
        # Whole groups on either side, so that only one is smaller than the others.
        half = -(-len(rows) // size) // 2 * size
        waiting += [ordered[:half], ordered[half:]]
    return groups


def coupled(noise: Tensor, clean: Tensor, condition: Tensor, size: int) -> Tensor:
    """The same noise in another order: within groups of like observation, nearest to actions.

    Args:
        noise: Independent draws, shape (B, H, D).
        clean: Normalised actions, shape (B, H, D).
        condition: What was observed, normalised, shape (B, C).
        size: Samples of a group; 1 leaves the noise as it is, B knows no observation.

    Returns:
        Noise of each sample, shape (B, H, D).
    """
    paired = noise.clone()
    for rows in like_groups(condition, size):
        cost = torch.cdist(clean[rows].flatten(1), noise[rows].flatten(1)).square()
        _, chosen = linear_sum_assignment(cost.cpu().numpy())
        paired[rows] = noise[rows[torch.from_numpy(chosen)]]
    return paired
