"""Jacobi decoding: refine a guess of all tokens at once until nothing changes.

One update predicts every token of the block from the guess before it, under the ordinary causal
mask: ``y_i <- argmax p(. | y_<i, x)``. After j updates the first j tokens are those of greedy
decoding, so the only fixed point is the greedy block; how few updates it takes depends on guess
and model (Santilli et al. 2023; CLLM, arXiv 2403.00835; CEED-VLA). The keys and values of guessed
tokens are valid for this one guess only, hence the crop after every update: without it a later
update attends to all earlier guesses, and the result is not the greedy block.

What a forward changes is `advanced`, a function that reads nothing back, so that a CUDA graph can
hold it together with its forward. It takes tensors or NumPy arrays: between two forwards of a
fraction of a millisecond on a CPU, twenty operations of PyTorch are a fifth of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .token_model import DecodedTokens, TokenModel

Array: TypeAlias = Any  # tensors, or NumPy arrays, but one kind of them in a call


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

    def numbers(self, num_tokens: int) -> tuple[int, float]:
        """Most forwards for a block of n tokens, and the largest move, negative for none."""
        return (
            num_tokens + 1 if self.max_calls is None else self.max_calls,
            -1.0 if self.max_move is None else self.max_move,
        )


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
    stop, progress = Stop.of(exit_rule, guess, decode, min_verified), Progress.of(guess)
    measure = decode if exit_rule.max_move is not None else None
    base, iterates = model.num_fed, [guess]
    while not progress.finished.all():
        predicted = model.feed(shifted(begin, progress.tokens)).argmax(dim=-1)  # (b, n)
        model.crop(base)
        progress = advanced(progress, predicted, stop, guess.shape[1], measure)
        iterates.append(progress.tokens)
    return progress.result(iterates if record else ())


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
    stop, progress = Stop.of(exit_rule, guess, decode, min_verified), Progress.of(guess)
    measure = decode if exit_rule.max_move is not None else None
    base, num_tokens, committed = model.num_fed, guess.shape[1], 0
    iterates = [guess]
    while not progress.finished.all():
        window = torch.cat([begin, progress.tokens], dim=1)[:, committed:num_tokens]
        predicted = model.feed(window).argmax(dim=-1)  # (b, n - committed)
        predicted = torch.cat([progress.tokens[:, :committed], predicted], dim=1)
        progress = advanced(progress, predicted, stop, num_tokens - 1, measure)
        iterates.append(progress.tokens)
        unfinished = ~progress.finished
        if unfinished.any():
            # The batch shares one window: it starts where the slowest row stands.
            committed = int(progress.num_verified[unfinished].min())
        model.crop(base + committed)
    model.crop(base)
    return progress.result(iterates if record else ())


@dataclass(frozen=True)
class Progress:
    """How far each row has come.

    Attributes:
        tokens: The newest state of the block, shape (B, n).
        num_verified: Leading tokens that are known to be the greedy decoder's own, shape (B,).
        num_calls: Forwards until the row was finished, shape (B,).
        finished: Whether it is, shape (B,).
    """

    tokens: Array
    num_verified: Array
    num_calls: Array
    finished: Array

    @classmethod
    def of(cls, guess: Array) -> Progress:
        """Where rows begin, from guesses (B, n) of 64-bit integers."""
        count = guess[:, 0] * 0
        return cls(guess, count, count, count > 0)

    def result(self, iterates: Sequence[Tensor] = ()) -> DecodedTokens:
        """What is given out, of tensors."""
        return DecodedTokens(self.tokens, self.num_verified, self.num_calls, tuple(iterates))


@dataclass(frozen=True)
class Stop:
    """An `ExitRule` in numbers, of the kind that `Progress` holds, or plain ones beside arrays.

    Attributes:
        max_calls: Most forwards, shape (); more than any decoder needs for no limit.
        max_move: Largest move that counts as none, shape (), float64; negative for none.
        min_verified: Tokens that must be verified before that, shape (B,).
    """

    max_calls: Array
    max_move: Array
    min_verified: Array

    @classmethod
    def of(
        cls,
        rule: ExitRule,
        guess: Tensor,
        decode: Callable[[Tensor], Tensor] | None,
        min_verified: int | Tensor = 0,
    ) -> Stop:
        """The tensors of a rule for rows that begin with `guess`, arguments as for `jacobi`."""
        if rule.max_move is not None and decode is None:
            raise ValueError("an exit rule with max_move needs `decode`, tokens to action values")
        calls, move = rule.numbers(guess.shape[1])
        count = guess.new_zeros(len(guess), dtype=torch.int64)
        return cls(
            torch.tensor(calls, device=guess.device),
            torch.tensor(move, dtype=torch.float64, device=guess.device),
            count + min_verified,
        )


def shifted(begin: Tensor, tokens: Tensor) -> Tensor:
    """What predicts a block (B, n): the token that opens it (B, 1), and all but its last one."""
    return torch.cat([begin, tokens[:, :-1]], dim=1)


def advanced(
    progress: Progress,
    predicted: Array,
    stop: Stop,
    num_confirming: int | Array,
    decode: Callable[[Array], Array] | None = None,
) -> Progress:
    """Progress after one more forward; rows that are finished stay as they are.

    Args:
        progress: Before it.
        predicted: The next state of the block by this forward, shape (B, n).
        stop: When to leave before convergence.
        num_confirming: Leading tokens that must agree with the state before for the block to be
            taken as converged: n for the test of equality, n - 1 by the argument that the last
            token depends on the ones before it alone.
        decode: Action values of a block, if ``stop.max_move`` is to be looked at.
    """
    xp: Any = torch if isinstance(predicted, Tensor) else np
    num_tokens = predicted.shape[1]
    before, running = progress.tokens, ~progress.finished
    tokens = xp.where(running[:, None], predicted, before)
    num_agreeing = leading_agreement(before, tokens)  # (b,)
    verified = num_agreeing + (num_agreeing < num_tokens)
    num_verified = xp.where(running, verified, progress.num_verified)
    num_calls = progress.num_calls + running
    leaving = num_calls >= stop.max_calls
    if decode is not None:
        move = abs(decode(tokens) - decode(before)).reshape(len(tokens), -1)
        leaving = leaving | (xp.amax(move, 1) <= stop.max_move)
    leaving = leaving & (num_verified >= stop.min_verified)
    # More than n + 1 forwards cannot be needed; rounding that differs from one forward to the next
    # must not make an endless loop of a near-tie.
    leaving = leaving | (num_calls > num_tokens)
    finished = progress.finished | (num_agreeing >= num_confirming) | leaving
    return Progress(tokens, num_verified, num_calls, finished)


def leading_agreement(one: Array, other: Array) -> Array:
    """Length of the common prefix of each row of two token blocks (B, n), shape (B,)."""
    return (one == other).cumprod(1).sum(1)
