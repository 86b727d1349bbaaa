"""How much Jacobi decoding gets right out of order: the fixed tokens of CLLM and CEED-VLA."""

from __future__ import annotations

import torch
from torch import Tensor


def num_fixed_tokens(iterates: Tensor) -> Tensor:
    """Tokens that were right for good while one in front of them was still wrong, shape (B,).

    Args:
        iterates: All states of the block from the guess to the fixed point, shape (J, B, n). What
            the guess holds does not count.
    """
    right = iterates == iterates[-1]  # (j, b, n)
    # Settled in a state: right in it and in all later ones.
    settled = right.flip(0).cumprod(dim=0).flip(0).bool()  # (j, b, n)
    first_wrong = right.long().cumprod(dim=-1).sum(dim=-1, keepdim=True)  # (j, b, 1)
    behind = torch.arange(iterates.shape[-1], device=iterates.device)
    return (settled & (behind > first_wrong))[1:].any(dim=0).sum(dim=-1)
