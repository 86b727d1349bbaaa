"""What token decoders need of a causal language model: feed it, and make it forget.

A chunk of actions is a block of n tokens y_1 .. y_n behind a prompt x. Position i predicts
position i + 1, so feeding the prompt's last token and y_1 .. y_{n-1} gives logits of y_1 .. y_n.
That last prompt token is the same for every prompt (it opens the block) and is called `begin`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class TokenModel(Protocol):
    """A causal model that has read the prompts of B rows, all but their last token.

    Logits cover the action vocabulary alone, so nothing else can be decoded.
    """

    @property
    def num_fed(self) -> int:
        """Tokens that are remembered behind the prompt."""
        ...

    def feed(self, tokens: Tensor) -> Tensor:
        """Read more tokens in one forward.

        Args:
            tokens: Shape (B, q), integer, to stand behind what was fed before.

        Returns:
            Logits of the token that follows each of them, shape (B, q, V).
        """
        ...

    def crop(self, num_fed: int) -> None:
        """Forget all but the first `num_fed` tokens behind the prompt."""
        ...


class RecomputingModel:
    """A `TokenModel` without a cache: every forward starts from the prompt.

    The reference for cached models, and the way out where a cache cannot be cropped.

    Args:
        forward: Called with all tokens behind the prompt, shape (B, k); returns the logits of the
            token that follows each of them, shape (B, k, V).
    """

    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        self._forward = forward
        self._fed: Tensor | None = None

    @property
    def num_fed(self) -> int:
        """Tokens that are remembered behind the prompt."""
        return 0 if self._fed is None else self._fed.shape[1]

    def feed(self, tokens: Tensor) -> Tensor:
        """Read more tokens; see `TokenModel.feed`."""
        self._fed = tokens if self._fed is None else torch.cat([self._fed, tokens], dim=1)
        return self._forward(self._fed)[:, -tokens.shape[1] :]

    def crop(self, num_fed: int) -> None:
        """Forget later tokens; see `TokenModel.crop`."""
        if self._fed is not None:
            self._fed = self._fed[:, :num_fed]


@dataclass(frozen=True)
class DecodedTokens:
    """A block of tokens for each of B rows, and what is known about it.

    Attributes:
        tokens: Shape (B, n).
        num_verified: Leading tokens that are known to be the greedy decoder's own, shape (B,).
        num_calls: Forwards behind the prompt until the row was finished, shape (B,).
        iterates: Every state of the block from the guess on, each of shape (B, n), if recorded;
            a row that is finished stays as it is.
    """

    tokens: Tensor
    num_verified: Tensor
    num_calls: Tensor
    iterates: tuple[Tensor, ...] = ()

    @property
    def converged(self) -> Tensor:
        """Rows whose whole block is the greedy decoder's, shape (B,)."""
        return self.num_verified == self.tokens.shape[1]


def greedy_tokens_uncached(
    forward: Callable[[Tensor], Tensor], begin: Tensor, num_tokens: int
) -> Tensor:
    """Greedy decoding by its definition: argmax, append, start over; shape (B, n).

    Args:
        forward: As for `RecomputingModel`.
        begin: Last token of the prompts, shape (B, 1).
        num_tokens: Block size n.
    """
    tokens = begin
    for _ in range(num_tokens):
        following = forward(tokens)[:, -1:].argmax(dim=-1)  # (b, 1)
        tokens = torch.cat([tokens, following], dim=1)
    return tokens[:, 1:]


def greedy_tokens(model: TokenModel, begin: Tensor, num_tokens: int) -> DecodedTokens:
    """Greedy autoregressive decoding: one forward per token.

    Args:
        model: Has read the prompts; holds as many tokens afterwards as before.
        begin: Last token of the prompts, shape (B, 1).
        num_tokens: Block size n.
    """
    base, token = model.num_fed, begin
    tokens: list[Tensor] = []
    for _ in range(num_tokens):
        token = model.feed(token)[:, -1:].argmax(dim=-1)  # (b, 1)
        tokens.append(token)
    model.crop(base)
    count = torch.full((len(begin),), num_tokens, device=begin.device)
    return DecodedTokens(torch.cat(tokens, dim=1), count, count)
