"""Fitting the thresholds of learned acceptance to recorded observations, see `decoding.acceptance`.

A policy's plans are followed through recorded episodes: each starts from the fixed point of the
plan before it, shifted as in use. Forward by forward, the threshold is the smallest margin above
which tokens lie, on average, no farther from their fixed point than a tolerance; what it accepts
stays in the blocks that the next forward reads. A last share of the episodes is held out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...decoding.acceptance import Acceptance, Block, jacobi_accepting, margins
from ...decoding.jacobi import ExitRule, jacobi_committed
from ...decoding.token_guesses import random_tokens, repeated_action, shifted_chunk
from ...decoding.token_model import DecodedTokens, TokenModel
from ...policies.vla.decoding_config import TokenDecodingConfig
from ...policies.vla.model import VlaModel
from ..data.episodes import Episodes
from ..data.windows import Windows


@dataclass(frozen=True)
class AcceptanceConfig:
    """How thresholds are fitted.

    Attributes:
        tolerance: Mean distance of accepted tokens from the greedy decoder's, in normalised action
            values, whose range is 2.
        num_thresholds: Forwards with a threshold of their own; the last one holds for later ones.
        reach: Tokens at most this many bins apart do not rival each other.
        held_out: Share of the episodes, the last ones, that the result is tried on.
        batch_size: Plans decoded at a time.
        seed: Seed of the random guesses.
    """

    tolerance: float = 0.02
    num_thresholds: int = 4
    reach: int = 2
    held_out: float = 0.25
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject what fits nothing."""
        if not self.tolerance > 0:
            raise ValueError(f"tolerance must be above 0, got {self.tolerance}")
        if min(self.num_thresholds, self.batch_size) < 1 or self.reach < 0:
            raise ValueError(
                "num_thresholds and batch_size must be at least 1, reach at least 0, got "
                f"{self.num_thresholds}, {self.batch_size} and {self.reach}"
            )
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must lie between 0 and 1, got {self.held_out}")


@dataclass(frozen=True)
class Plans:
    """Plans that follow each other through recorded episodes.

    Attributes:
        index: Sample of each plan, shape (N,).
        fixed: Fixed point of its Jacobi iteration, which greedy decoding gives, shape (N, n).
        guess: What its iteration starts from in use, shape (N, n).
    """

    index: Tensor
    fixed: Tensor
    guess: Tensor

    def within(self, first: int, behind: int) -> Plans:
        """The plans of some samples."""
        rows = (self.index >= first) & (self.index < behind)
        return Plans(self.index[rows], self.fixed[rows], self.guess[rows])


def split(episodes: Episodes, held_out: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """First sample of the episodes to fit and behind their last, and of those that are held out.

    Raises:
        ValueError: If there are fewer than two episodes.
    """
    ends = episodes.episode_ends
    num_seen = min(max(round(len(ends) * (1 - held_out)), 1), len(ends) - 1)
    if num_seen < 1:
        raise ValueError(f"one episode to fit and one to hold out are needed, got {len(ends)}")
    border = int(ends[num_seen - 1])
    return (0, border), (border, int(ends[-1]))


@dataclass(frozen=True)
class Tried:
    """What a decoder does on plans.

    Attributes:
        name: What it is called.
        mean_forwards: Forwards per plan.
        distance: Mean distance from the fixed point, normalised.
        equal: Share of plans that are the fixed point.
    """

    name: str
    mean_forwards: float
    distance: float
    equal: float


class Observed:
    """A model behind recorded observations.

    Args:
        model: What decodes.
        windows: One observation and a chunk of actions per sample.
        batch_size: Plans at a time.
    """

    def __init__(self, model: VlaModel, windows: Windows, batch_size: int) -> None:
        self.model, self._windows, self._batch_size = model, windows, batch_size

    def batches(self, index: Tensor) -> Iterator[tuple[slice, TokenModel, Tensor]]:
        """Batches of samples: where each stands, its token model and the token that begins."""
        for first in range(0, len(index), self._batch_size):
            rows = slice(first, first + self._batch_size)
            observed = self._windows.gather(index[rows]).observation
            frames = {key: values[:, 0].numpy() for key, values in observed.items()}
            prompt = self.model.prompt(frames, check=False)
            yield rows, self.model.token_model(prompt), self.model.begin(len(index[rows]))

    def decoded(
        self,
        plans: Plans,
        decoder: Callable[[TokenModel, Tensor, Tensor], DecodedTokens],
    ) -> list[DecodedTokens]:
        """What a decoder makes of plans, batch by batch."""
        return [
            decoder(token_model, begin, plans.guess[rows].to(begin.device))
            for rows, token_model, begin in self.batches(plans.index)
        ]

    def distance(self, tokens: Tensor, fixed: Tensor) -> Tensor:
        """Distance of action values between two blocks (N, n), shape (N, n)."""
        values = [self.model.action_tokenizer.normalised(one.numpy()) for one in (tokens, fixed)]
        return torch.from_numpy(np.abs(values[0] - values[1]))


@torch.inference_mode()
def followed_plans(
    observed: Observed, episodes: Episodes, decoding: TokenDecodingConfig, seed: int
) -> Plans:
    """Plans of all episodes, one every `decoding.num_execute` steps."""
    tokenizer, stride = observed.model.action_tokenizer, decoding.num_execute
    bounds = zip(episodes.episode_starts, episodes.episode_ends, strict=True)
    steps = [np.arange(start, end, stride) for start, end in bounds]
    index = torch.from_numpy(np.concatenate(steps))
    rng = np.random.default_rng(seed)
    drawn = [random_tokens(rng, tokenizer.num_tokens, tokenizer.vocabulary_size) for _ in index]
    cold = Plans(index, index[:, None], torch.from_numpy(np.stack(drawn)))
    fixed = torch.cat([one.tokens.cpu() for one in observed.decoded(cold, jacobi_committed)])
    guess = np.stack(drawn)
    if decoding.guess != "random":
        move = shifted_chunk if decoding.guess == "previous" else repeated_action
        begun = np.concatenate([np.arange(len(one)) == 0 for one in steps])
        for row in np.flatnonzero(~begun):
            guess[row] = move(fixed[row - 1].numpy(), stride, tokenizer.size)
    return Plans(index, fixed, torch.from_numpy(guess))


@torch.inference_mode()
def fit_acceptance(observed: Observed, plans: Plans, config: AcceptanceConfig) -> Acceptance:
    """Thresholds for as many forwards as the configuration says."""
    block, thresholds = Block.of(plans.guess), list[float]()
    for _ in range(config.num_thresholds):
        logits = torch.cat(
            [
                token_model.feed(_shifted(begin, block.tokens[rows])).cpu()
                for rows, token_model, begin in observed.batches(plans.index)
            ]
        )  # (N, n, v)
        # With nothing accepted: what is neither verified nor kept yet is what the threshold is for.
        proven = block.updated(logits, torch.inf, config.reach)
        asked = ~proven.kept
        error = observed.distance(logits.argmax(dim=-1), plans.fixed)[asked]
        margin = margins(logits, config.reach)[asked]
        thresholds.append(fitted_threshold(margin, error, config.tolerance))
        block = block.updated(logits, thresholds[-1], config.reach)
    return Acceptance(tuple(thresholds), config.reach)


def fitted_threshold(margin: Tensor, error: Tensor, tolerance: float) -> float:
    """The smallest margin above which errors are on average within a tolerance.

    Args:
        margin: Of M tokens, shape (M,).
        error: Of each, shape (M,), 0 or more.
        tolerance: Largest mean error.

    Returns:
        0 if all tokens may be accepted, the largest margin if none may.
    """
    if not len(margin):
        return 0.0
    margin, order = margin.double().sort(descending=True)
    count = torch.arange(1, len(margin) + 1)
    within = (error[order].cumsum(0) / count <= tolerance).nonzero()[:, 0]
    if not len(within):
        return float(margin[0])
    last = int(within[-1])
    if last + 1 == len(margin):
        return 0.0
    return float(margin[last : last + 2].mean())


@torch.inference_mode()
def tried(
    observed: Observed, plans: Plans, acceptance: Acceptance, exits: tuple[int, ...]
) -> list[Tried]:
    """Learned acceptance, exits after fixed numbers of forwards, and no exit, on the same plans."""

    def accepting(model: TokenModel, begin: Tensor, guess: Tensor) -> DecodedTokens:
        return jacobi_accepting(model, begin, guess, acceptance)

    def leaving(sigma: int | None) -> Callable[[TokenModel, Tensor, Tensor], DecodedTokens]:
        return lambda model, begin, guess: jacobi_committed(model, begin, guess, ExitRule(sigma))

    decoders = {"learned": accepting, **{f"exit {sigma}": leaving(sigma) for sigma in exits}}
    decoders["converged"] = leaving(None)
    rows = []
    for name, decoder in decoders.items():
        found = observed.decoded(plans, decoder)
        tokens = torch.cat([one.tokens.cpu() for one in found])
        distance = observed.distance(tokens, plans.fixed)
        calls = torch.cat([one.num_calls.cpu() for one in found]).double()
        equal = (tokens == plans.fixed).all(dim=1).double()
        rows.append(Tried(name, float(calls.mean()), float(distance.mean()), float(equal.mean())))
    return rows


def _shifted(begin: Tensor, tokens: Tensor) -> Tensor:
    """What predicts a block (B, n): the token that begins it and all but its last."""
    return torch.cat([begin, tokens[:, :-1].to(begin.device)], dim=1)
