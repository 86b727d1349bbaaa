"""Autoregressive rollout as pure functions: with a cache, and the slow way that defines it.

A guess of the result, such as the previous plan, can be corrected in parallel instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Cache = TypeVar("Cache")


def rollout(
    prefill: Callable[[Tensor], tuple[Tensor, Cache]],
    decode: Callable[[Tensor, Cache], tuple[Tensor, Cache]],
    tokens: Tensor,
    num_steps: int,
) -> Tensor:
    """Continue a token sequence; each known token is looked at once.

    Args:
        prefill: Called with all known tokens (B, L, F); returns the token after the last one,
            shape (B, F), and the cache.
        decode: Called with one more token (B, F) and the cache; returns the same.
        tokens: Known tokens, shape (B, L, F).
        num_steps: Tokens to append, at least 1.

    Returns:
        The appended tokens, shape (B, num_steps, F).
    """
    token, cache = prefill(tokens)  # (b, f)
    drafted = [token]
    for _ in range(num_steps - 1):
        token, cache = decode(token, cache)
        drafted.append(token)
    return torch.stack(drafted, dim=1)  # (b, num_steps, f)


def rollout_uncached(predict: Callable[[Tensor], Tensor], tokens: Tensor, num_steps: int) -> Tensor:
    """Continue a token sequence, looking at all of it anew for every token.

    Args:
        predict: Called with tokens (B, L, F); returns what follows each of them, same shape.
        tokens: Known tokens, shape (B, L, F).
        num_steps: Tokens to append.

    Returns:
        The appended tokens, shape (B, num_steps, F).
    """
    length = tokens.shape[1]
    for _ in range(num_steps):
        tokens = torch.cat([tokens, predict(tokens)[:, -1:]], dim=1)
    return tokens[:, length:]


def correct(
    predict: Callable[[Tensor], Tensor], tokens: Tensor, num_known: int, num_sweeps: int
) -> Tensor:
    """Correct a guessed continuation by Jacobi sweeps: all tokens at once, each from the last ones.

    Every sweep makes at least one more token that of the rollout, the first of them first, and
    after as many sweeps as there are guessed tokens the result is the rollout.

    Args:
        predict: Called with tokens (B, L, F); returns what follows each of them, same shape.
        tokens: Known tokens and a guess of those behind, shape (B, L, F).
        num_known: How many are known.
        num_sweeps: Calls of `predict`.

    Returns:
        Known and corrected tokens, shape (B, L, F).
    """
    known = tokens[:, :num_known]
    for _ in range(num_sweeps):
        following = predict(tokens[:, :-1])  # (b, l - 1, f)
        tokens = torch.cat([known, following[:, num_known - 1 :]], dim=1)  # (b, l, f)
    return tokens
