"""Preference tuning on the toy: fewer collisions, told by pairs of plans.

Two plans begin at noise close to the same noise, so that both are of one mode; of a pair of which
one collides, the other is preferred. See `pair_tuning`.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
import toy_obstacle
from pair_tuning import Tried, Tuning, near, plans, tune

from hotloop.policies.diffusion.model import DiffusionModel

NUM_PAIRS = 16_000  # tried per round; those of one outcome teach nothing


def tuned(student: DiffusionModel, tuning: Tuning, seed: int) -> DiffusionModel:
    """The student after tuning."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    model = copy.deepcopy(student).requires_grad_(True)
    for _ in range(tuning.rounds):
        tune(model, *_pairs(model, tuning, generator, rng), tuning, generator)
    return model.requires_grad_(False)


@torch.no_grad()
def _pairs(
    model: DiffusionModel, tuning: Tuning, generator: torch.Generator, rng: np.random.Generator
) -> tuple[Tried, Tried, Tried]:
    """Good plans, the bad ones beside them, and those of pairs of which none collides."""
    condition = toy_obstacle.conditions(NUM_PAIRS, rng)
    context = model.flatten({toy_obstacle.KEY: torch.from_numpy(condition[:, None])})
    noise = torch.randn(NUM_PAIRS, *model.window_shape, generator=generator)
    own = plans(model, context, noise)
    tried, hits = [], []
    for _ in range(2):
        plan = plans(model, context, near(noise, tuning.nearness, generator))
        motion = plan.reshape(-1, toy_obstacle.NUM_POINTS, 2).numpy()
        tried.append(Tried(context, noise, own, plan))
        hits.append(torch.from_numpy(toy_obstacle.collides(motion, condition)))
    differ, first = hits[0] != hits[1], hits[1][:, None, None]
    good, bad = (
        tried[0]._replace(plan=torch.where(first, tried[one].plan, tried[1 - one].plan)).of(differ)
        for one in (0, 1)
    )
    return good, bad, tried[0].of(~hits[0] & ~hits[1])
