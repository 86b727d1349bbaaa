"""Where Jacobi decoding starts: guesses of a token block, numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]

GUESSES = ("random", "previous", "repeat")


def random_tokens(rng: np.random.Generator, num_tokens: int, vocabulary_size: int) -> Tokens:
    """Tokens drawn uniformly from the action vocabulary, shape (n,)."""
    return rng.integers(vocabulary_size, size=num_tokens)


def shifted_chunk(tokens: Tokens, num_executed: int, action_tokens: int) -> Tokens:
    """The previous chunk without its executed actions, its last action repeated at the end.

    Args:
        tokens: Previous block, time-major, shape (n,).
        num_executed: Actions executed since; from the chunk's size on, only the last one is left.
        action_tokens: Tokens per action D.
    """
    actions = np.reshape(tokens, (-1, action_tokens))  # (steps, d)
    steps = np.minimum(np.arange(len(actions)) + num_executed, len(actions) - 1)
    return np.ravel(actions[steps])  # (n,)


def repeated_action(tokens: Tokens, num_executed: int, action_tokens: int) -> Tokens:
    """The action of the previous chunk that was executed last, again and again, shape (n,)."""
    actions = np.reshape(tokens, (-1, action_tokens))  # (steps, d)
    last = min(max(num_executed - 1, 0), len(actions) - 1)
    return np.tile(actions[last], len(actions))  # (n,)
