"""Preference tuning of a student of one call: plans near its own, of which one turned out better.

A student G is a Gaussian around G(z), and of two plans that it might have made, the good one is to
become likelier than the bad one, in the manner of PSO (arXiv 2410.03190) and DPO: log-ratios
against the student before tuning, clipped. Where nothing is to be preferred, it is held where it
was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hotloop.policies.diffusion.model import DiffusionModel

BATCH = 256


@dataclass(frozen=True)
class Tuning:
    """How a student is tuned.

    Attributes:
        nearness: Share of new noise in the noise of a plan that is tried, a standard deviation.
        beta: How sure of a pair the student must become.
        clip: Largest log-ratio of a plan.
        held: Weight of staying where nothing is preferred, in variances of a tried plan; 0 holds
            nothing.
        only_good: Regress on the good plan of each pair instead, for comparison.
        rounds: How often new pairs are made, of the student as it is then.
        steps: Optimisation steps per round.
        lr: Learning rate.
    """

    nearness: float = 0.3
    beta: float = 5.0
    clip: float = 0.5
    held: float = 20.0
    only_good: bool = False
    rounds: int = 4
    steps: int = 100
    lr: float = 1e-4


class Tried(NamedTuple):
    """Plans that a student tried, normalised.

    Attributes:
        context: What it was told, shape (P, C).
        noise: The noise z that each began near, shape (P, H, D).
        own: The student's own plan, G(z).
        plan: What was tried: the plan of noise near z.
    """

    context: Tensor
    noise: Tensor
    own: Tensor
    plan: Tensor

    def of(self, rows: Tensor) -> Tried:
        """Some of them."""
        return Tried(*(one[rows] for one in self))


def plans(model: DiffusionModel, context: Tensor, noise: Tensor) -> Tensor:
    """Plans of one call, shape (B, H, D)."""
    level = torch.full(noise.shape[:2], model.config.num_levels)
    return model.predict(noise, level, context, level[:, 0])


def near(noise: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Noise beside some noise, standard normal as well."""
    other = torch.randn(noise.shape, generator=generator)
    return (1 - share**2) ** 0.5 * noise + share * other


def tune(
    model: DiffusionModel,
    good: Tried,
    bad: Tried,
    kept: Tried,
    tuning: Tuning,
    generator: torch.Generator,
) -> None:
    """One round.

    Args:
        model: Whom to tune, in place; it made the plans.
        good: Plans to prefer, of P pairs.
        bad: The others of these pairs.
        kept: Plans to hold on to.
        tuning: How.
        generator: Draws batches.
    """
    variance = (good.plan - good.own).square().mean().item()
    optimizer = torch.optim.Adam(model.parameters(), lr=tuning.lr)
    for _ in range(tuning.steps):
        rows, others = (
            torch.randint(len(one.plan), (BATCH,), generator=generator) for one in (good, kept)
        )
        loss = _pair_loss(model, good.of(rows), bad.of(rows), variance, tuning)
        if tuning.held:
            hold = kept.of(others)
            moved = (plans(model, hold.context, hold.noise) - hold.own).square().mean()
            loss = loss + tuning.held * moved / (2 * variance)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _pair_loss(
    model: DiffusionModel, good: Tried, bad: Tried, variance: float, tuning: Tuning
) -> Tensor:
    """Loss of some pairs, shape ()."""
    if tuning.only_good:
        now = plans(model, good.context, good.noise)
        return (now - good.plan).square().mean() / (2 * variance)

    def log_ratio(of: Tried) -> Tensor:
        now = plans(model, of.context, of.noise)
        before, after = ((of.plan - one).square().mean(dim=(1, 2)) for one in (of.own, now))
        return ((before - after) / (2 * variance)).clamp(-tuning.clip, tuning.clip)

    return -F.logsigmoid(tuning.beta * (log_ratio(good) - log_ratio(bad))).mean()
