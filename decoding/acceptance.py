"""Learned acceptance: Jacobi decoding that keeps a token as soon as its margin is large enough.

Jacobi decoding waits until a forward repeats a token; most tokens are right long before. Here a
token that forward k predicts with a margin above kappa_k is kept, and the block is given out when
every token is kept or verified. The kappas are a few numbers that are fitted to what the model's
own iterations arrive at (compare Learnable Sampler Distillation, arXiv 2509.19962, and the relaxed
acceptance of Spec-VLA, arXiv 2507.22424). Nothing of the model changes, and with infinite kappas
this is `jacobi.jacobi_committed`, token for token and forward for forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

import torch
from torch import Tensor

from .jacobi import leading_agreement
from .token_model import DecodedTokens, TokenModel


@dataclass(frozen=True)
class Acceptance:
    """When a token counts as right without proof.

    Attributes:
        thresholds: kappa_k, the margin that a token of forward k must exceed; the last one holds
            for all later forwards.
        reach: Tokens whose ids differ by at most this do not rival each other; with uniform bins
            they are actions that lie close together. 0: every other token is a rival.
    """

    thresholds: tuple[float, ...]
    reach: int = 0

    def __post_init__(self) -> None:
        """Reject what accepts nothing sensible."""
        if not self.thresholds or any(isnan(one) for one in self.thresholds):
            raise ValueError(
                f"acceptance needs one threshold per forward, got {self.thresholds}; infinity "
                "accepts nothing in its forward"
            )
        if self.reach < 0:
            raise ValueError(f"reach must be 0 or more, got {self.reach}")

    def threshold(self, forward: int) -> float:
        """Margin that a token of this forward must exceed; forwards count from 0."""
        return self.thresholds[min(forward, len(self.thresholds) - 1)]


def margins(logits: Tensor, reach: int = 0) -> Tensor:
    """How far the largest logit lies above the largest of its rivals.

    Args:
        logits: Shape (..., V), V > 2 reach + 1.
        reach: Tokens whose ids differ from the largest's by at most this are no rivals.

    Returns:
        Shape (...), 0 or more.
    """
    if reach == 0:
        first, second = logits.topk(2, dim=-1).values.unbind(-1)
        return first - second
    largest, best = logits.max(dim=-1, keepdim=True)  # (..., 1)
    ids = torch.arange(logits.shape[-1], device=logits.device)
    rivals = logits.masked_fill((ids - best).abs() <= reach, -torch.inf)
    return (largest - rivals.amax(dim=-1, keepdim=True))[..., 0]


@dataclass(frozen=True)
class Block:
    """A block of tokens under way, for each of B rows.

    Attributes:
        tokens: Shape (B, n).
        kept: Tokens that are verified or accepted, shape (B, n), bool.
        num_verified: Leading tokens that are the greedy decoder's own, shape (B,).
    """

    tokens: Tensor
    kept: Tensor
    num_verified: Tensor

    @classmethod
    def of(cls, guess: Tensor) -> Block:
        """Where decoding begins: a guess (B, n) of which nothing is known."""
        none = torch.zeros_like(guess, dtype=torch.bool)
        return cls(guess, none, none.long().sum(dim=1))

    def updated(self, logits: Tensor, threshold: float, reach: int) -> Block:
        """What a forward that has read this block makes of it.

        The token behind the leading ones that the forward repeats is the greedy decoder's, whatever
        was accepted there before.

        Args:
            logits: Of every token of the block, shape (B, n, V).
            threshold: Margin that a token must exceed to be accepted.
            reach: See `margins`.
        """
        predicted = logits.argmax(dim=-1)  # (b, n)
        num_agreeing = leading_agreement(self.tokens, predicted)  # (b,)
        order = torch.arange(predicted.shape[1], device=predicted.device)
        verified = order <= num_agreeing[:, None]  # (b, n)
        tokens = torch.where(self.kept & ~verified, self.tokens, predicted)
        kept = self.kept | verified | (margins(logits, reach) > threshold)
        return Block(tokens, kept, (num_agreeing + 1).clamp(max=predicted.shape[1]))

    def where(self, rows: Tensor, other: Block) -> Block:
        """This block in rows (B,), bool, and another in the others."""
        return Block(
            torch.where(rows[:, None], self.tokens, other.tokens),
            torch.where(rows[:, None], self.kept, other.kept),
            torch.where(rows, self.num_verified, other.num_verified),
        )


def jacobi_accepting(
    model: TokenModel,
    begin: Tensor,
    guess: Tensor,
    acceptance: Acceptance,
    *,
    max_calls: int | None = None,
    min_verified: int | Tensor = 0,
) -> DecodedTokens:
    """Jacobi decoding until every token is verified or accepted.

    As `jacobi.jacobi_committed`, the verified prefix stays in the cache. At most n forwards, one
    more if rounding differs between them.

    Args:
        model: Has read the prompts; holds as many tokens afterwards as before.
        begin: Last token of the prompts, shape (B, 1).
        guess: Start of the iteration, shape (B, n).
        acceptance: Which tokens need no proof.
        max_calls: Most forwards; None for no limit.
        min_verified: Leading tokens that must be verified whatever is accepted, one number or
            shape (B,).
    """
    base, num_tokens, committed = model.num_fed, guess.shape[1], 0
    block = Block.of(guess)
    num_calls = torch.zeros_like(block.num_verified)
    finished = torch.zeros_like(num_calls, dtype=torch.bool)
    limit = min(max_calls or num_tokens + 1, num_tokens + 1)
    for forward in range(num_tokens + 1):
        window = torch.cat([begin, block.tokens], dim=1)[:, committed:num_tokens]
        logits = model.feed(window)  # (b, n - committed, v)
        threshold = acceptance.threshold(forward)
        updated = _behind(block, committed).updated(logits, threshold, acceptance.reach)
        block = block.where(finished, _joined(block, committed, updated))
        num_calls = num_calls + ~finished
        # The last token depends on those before it alone, so n - 1 of them confirm the block.
        leaving = block.kept.all(dim=1) | (num_calls >= limit)
        finished = finished | (leaving & (block.num_verified >= min_verified))
        if finished.all():
            break
        committed = int(block.num_verified[~finished].min())
        model.crop(base + committed)
    model.crop(base)
    return DecodedTokens(block.tokens, block.num_verified, num_calls)


def _behind(block: Block, committed: int) -> Block:
    """The part of a block behind its verified prefix."""
    return Block(
        block.tokens[:, committed:], block.kept[:, committed:], block.num_verified - committed
    )


def _joined(block: Block, committed: int, part: Block) -> Block:
    """A block whose part behind the verified prefix is another."""
    return Block(
        torch.cat([block.tokens[:, :committed], part.tokens], dim=1),
        torch.cat([block.kept[:, :committed], part.kept], dim=1),
        part.num_verified + committed,
    )
