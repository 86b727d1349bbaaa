"""Jacobi decoding: refine a guess of all tokens at once until nothing changes.

One update predicts every token of the block from the guess before it, under the ordinary causal
mask: ``y_i <- argmax p(. | y_<i, x)``. After j updates the first j tokens are those of greedy
decoding, so the only fixed point is the greedy block; how few updates it takes depends on guess
and model (Santilli et al. 2023; CLLM, arXiv 2403.00835; CEED-VLA). The keys and values of guessed
tokens are valid for this one guess only, hence the crop after every update: without it a later
update attends to all earlier guesses, and the result is not the greedy block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .token_model import DecodedTokens, TokenModel


@dataclass(frozen=True)
class ExitRule:
    """When a row's block is given out before it has converged.

    Attributes:
        max_calls: Most forwards behind the prompt, sigma; None waits for convergence.
        max_move: Largest move of any decoded action value between two iterates that counts as
            none, epsilon; None waits for the tokens themselves to stop.
    """

    max_calls: int | None = None
    max_move: float | None = None

    def __post_init__(self) -> None:
        """Reject rules that no decoder could follow."""
        if self.max_calls is not None and self.max_calls < 1:
            raise ValueError(
                f"max_calls (sigma) must be at least 1, got {self.max_calls}; None decodes "
                "until convergence"
            )
        if self.max_move is not None and not self.max_move >= 0:
            raise ValueError(f"max_move (epsilon) must be 0 or more, got {self.max_move}")


UNTIL_CONVERGED = ExitRule()


def jacobi(
    model: TokenModel,
    begin: Tensor,
    guess: Tensor,
    exit_rule: ExitRule = UNTIL_CONVERGED,
    *,
    decode: Callable[[Tensor], Tensor] | None = None,
    min_verified: int | Tensor = 0,
    record: bool = False,
) -> DecodedTokens:
    """Plain Jacobi decoding: every forward predicts the whole block.

    A row is finished when a forward reproduces its block, at the latest after n + 1 forwards, or
    when the exit rule says so. Rows do not influence each other.

    Args:
        model: Has read the prompts; holds as many tokens afterwards as before.
        begin: Last token of the prompts, shape (B, 1).
        guess: Start of the iteration, shape (B, n).
        exit_rule: When to stop early.
        decode: Action values of a block, (B, n) to (B, ...); needed by ``exit_rule.max_move``.
        min_verified: Leading tokens that must be verified before the exit rule applies, one
            number or shape (B,).
        record: Keep every iterate.

    Raises:
        ValueError: If ``exit_rule.max_move`` is set without `decode`.
    """
    progress = _Progress(guess, exit_rule, decode, min_verified, record)
    base = model.num_fed
    while not progress.finished.all():
        shifted = torch.cat([begin, progress.tokens[:, :-1]], dim=1)  # (b, n)
        predicted = model.feed(shifted).argmax(dim=-1)  # (b, n)
        model.crop(base)
        progress.update(predicted, num_confirming=guess.shape[1])
    return progress.result()


def jacobi_committed(
    model: TokenModel,
    begin: Tensor,
    guess: Tensor,
    exit_rule: ExitRule = UNTIL_CONVERGED,
    *,
    decode: Callable[[Tensor], Tensor] | None = None,
    min_verified: int | Tensor = 0,
    record: bool = False,
) -> DecodedTokens:
    """Jacobi decoding that keeps the verified prefix, in tokens and cache, and shrinks the window.

    If k leading predictions agree with the guess that was fed, those k tokens are greedy's own,
    and so is prediction k + 1. At most n forwards. Arguments as for `jacobi`.
    """
    progress = _Progress(guess, exit_rule, decode, min_verified, record)
    base, num_tokens, committed = model.num_fed, guess.shape[1], 0
    while not progress.finished.all():
        window = torch.cat([begin, progress.tokens], dim=1)[:, committed:num_tokens]
        predicted = model.feed(window).argmax(dim=-1)  # (b, n - committed)
        progress.update(
            torch.cat([progress.tokens[:, :committed], predicted], dim=1),
            num_confirming=num_tokens - 1,
        )
        unfinished = ~progress.finished
        if unfinished.any():
            # The batch shares one window: it starts where the slowest row stands.
            committed = int(progress.num_verified[unfinished].min())
        model.crop(base + committed)
    model.crop(base)
    return progress.result()


class _Progress:
    """How far each row has come."""

    def __init__(
        self,
        guess: Tensor,
        exit_rule: ExitRule,
        decode: Callable[[Tensor], Tensor] | None,
        min_verified: int | Tensor,
        record: bool,
    ) -> None:
        if exit_rule.max_move is not None and decode is None:
            raise ValueError("an exit rule with max_move needs `decode`, tokens to action values")
        self._rule, self._decode, self._min_verified = exit_rule, decode, min_verified
        self.tokens = guess
        self.num_verified = torch.zeros(len(guess), dtype=torch.int64, device=guess.device)
        self.num_calls = torch.zeros_like(self.num_verified)
        self.finished = torch.zeros(len(guess), dtype=torch.bool, device=guess.device)
        self._iterates = [guess] if record else None

    def update(self, predicted: Tensor, num_confirming: int) -> None:
        """Take in one forward's predictions (B, n).

        Args:
            predicted: The next state of the block.
            num_confirming: Leading tokens that must agree with the state before for the block to
                be taken as converged: n for the test of equality, n - 1 by the argument that the
                last token depends on the ones before it alone.
        """
        num_tokens = predicted.shape[1]
        before, running = self.tokens, ~self.finished
        predicted = torch.where(running[:, None], predicted, before)
        num_agreeing = leading_agreement(before, predicted)  # (b,)
        verified = (num_agreeing + 1).clamp(max=num_tokens)
        self.num_verified = torch.where(running, verified, self.num_verified)
        self.num_calls += running
        leaving = torch.zeros_like(running)
        if self._rule.max_calls is not None:
            leaving |= self.num_calls >= self._rule.max_calls
        if self._rule.max_move is not None and self._decode is not None:
            move = self._decode(predicted) - self._decode(before)  # (b, ...)
            leaving |= move.flatten(1).abs().amax(dim=1) <= self._rule.max_move
        leaving &= self.num_verified >= self._min_verified
        # More than n + 1 forwards cannot be needed; rounding that differs from one forward to the
        # next must not make an endless loop of a near-tie.
        leaving |= self.num_calls > num_tokens
        self.finished = self.finished | (num_agreeing >= num_confirming) | leaving
        self.tokens = predicted
        if self._iterates is not None:
            self._iterates.append(predicted)

    def result(self) -> DecodedTokens:
        return DecodedTokens(
            self.tokens, self.num_verified, self.num_calls, tuple(self._iterates or ())
        )


def leading_agreement(one: Tensor, other: Tensor) -> Tensor:
    """Length of the common prefix of each row of two token blocks (B, n), shape (B,)."""
    return (one == other).long().cumprod(dim=1).sum(dim=1)
