"""Preference tuning of a student of one call on the toy: fewer collisions, told by pairs of plans.

Two plans begin at noise close to the same noise z, so that both are of one mode. Of a pair of which
one collides, the student G(z) is drawn to the other, in the manner of PSO (arXiv 2410.03190) and
DPO: log-ratios of Gaussians around G(z) against the student before tuning, clipped. Where neither
collides it is held where it was.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
import toy_obstacle
from torch import Tensor

from hotloop.policies.diffusion.model import DiffusionModel


@dataclass(frozen=True)
class Tuning:
    """How a student is tuned.

    Attributes:
        nearness: Share of new noise in the noise of a pair, a standard deviation.
        beta: How sure of a pair the student must become.
        clip: Largest log-ratio per number of a plan.
        held: Weight of staying where no plan collides, in variances of a pair; 0 holds nothing.
        only_good: Regress on the good plan of each pair instead, for comparison.
        rounds: How often new pairs are made, of the student as it is then.
        steps: Optimisation steps per round.
        num_pairs: Pairs that are tried per round; those of one outcome teach nothing.
        lr: Learning rate.
    """

    nearness: float = 0.3
    beta: float = 5.0
    clip: float = 0.5
    held: float = 20.0
    only_good: bool = False
    rounds: int = 4
    steps: int = 100
    num_pairs: int = 16_000
    lr: float = 1e-4


@dataclass(frozen=True)
class Pairs:
    """Plans of a student, normalised, shape (P, 1, 32), for what was observed.

    Attributes:
        context: Shape (P, C).
        noise: The noise z that both plans of a pair are near to.
        plan: The student's plan from z.
        good: Plan of a pair that does not collide.
        bad: The other one.
    """

    context: Tensor
    noise: Tensor
    plan: Tensor
    good: Tensor
    bad: Tensor


def plans(model: DiffusionModel, context: Tensor, noise: Tensor) -> Tensor:
    """Plans of one call, shape (B, 1, 32)."""
    num_levels = model.config.num_levels
    level = torch.full(noise.shape[:2], num_levels)
    return model.predict(noise, level, context, level[:, 0])


def tuned(student: DiffusionModel, tuning: Tuning, seed: int) -> DiffusionModel:
    """The student after tuning."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    model = copy.deepcopy(student).requires_grad_(True)
    for _ in range(tuning.rounds):
        pairs, kept = _make_pairs(model, tuning, generator, rng)
        variance = (pairs.good - pairs.plan).square().mean().item()
        optimizer = torch.optim.Adam(model.parameters(), lr=tuning.lr)
        for _ in range(tuning.steps):
            rows, others = (
                torch.randint(len(one.plan), (256,), generator=generator) for one in (pairs, kept)
            )
            plan = plans(model, pairs.context[rows], pairs.noise[rows])
            loss = _pair_loss(plan, pairs, rows, variance, tuning)
            same = plans(model, kept.context[others], kept.noise[others]) - kept.plan[others]
            loss = loss + tuning.held * same.square().mean() / (2 * variance)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.requires_grad_(False)


def _pair_loss(plan: Tensor, pairs: Pairs, rows: Tensor, variance: float, tuning: Tuning) -> Tensor:
    """Loss of plans (B, 1, 32), shape ()."""
    if tuning.only_good:
        return (plan - pairs.good[rows]).square().mean() / (2 * variance)

    def log_ratio(of: Tensor) -> Tensor:
        before, now = (
            (of[rows] - one).square().mean(dim=(1, 2)) for one in (pairs.plan[rows], plan)
        )
        return ((before - now) / (2 * variance)).clamp(-tuning.clip, tuning.clip)

    return -F.logsigmoid(tuning.beta * (log_ratio(pairs.good) - log_ratio(pairs.bad))).mean()


@torch.no_grad()
def _make_pairs(
    model: DiffusionModel, tuning: Tuning, generator: torch.Generator, rng: np.random.Generator
) -> tuple[Pairs, Pairs]:
    """Pairs of which one plan collides, and those of which none does."""
    condition = toy_obstacle.conditions(tuning.num_pairs, rng)
    context = model.flatten({toy_obstacle.KEY: torch.from_numpy(condition[:, None])})
    noise = torch.randn(tuning.num_pairs, *model.window_shape, generator=generator)
    near, share = [], tuning.nearness
    for _ in range(2):
        other = torch.randn(noise.shape, generator=generator)
        near.append(plans(model, context, (1 - share**2) ** 0.5 * noise + share * other))
    hits = [
        torch.from_numpy(
            toy_obstacle.collides(one.reshape(-1, toy_obstacle.NUM_POINTS, 2).numpy(), condition)
        )
        for one in near
    ]
    first = hits[1][:, None, None]
    good, bad = (torch.where(first, near[one], near[1 - one]) for one in (0, 1))
    every = (context, noise, plans(model, context, noise), good, bad)
    chosen = (hits[0] != hits[1], ~hits[0] & ~hits[1])
    told, kept = (Pairs(*(one[rows] for one in every)) for rows in chosen)
    return told, kept
