"""What all jump distillations share: the clean actions at which one network call must aim.

A student predicts clean actions x0, told how far the call jumps. One call is the DDIM step
``x' = a' x0 + (s' / s) (x - a x0)`` (Song et al. 2021, eq. 12), so where it lands and what it
predicts are the same thing. Methods differ in the states that jumps start from, and in where they
must land.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ...decoding.placed import placed
from ...decoding.schedules import NoiseSchedule
from ...policies.diffusion.model import DiffusionModel
from .objective import Drawn
from .observed import Seen

J = TypeVar("J", bound="JumpDraw")


@dataclass(frozen=True)
class JumpDraw(Drawn):
    """Jumps to learn, and samples to denoise, which are jumps of no length.

    Attributes:
        x: Normalised noisy actions, shape (B, H, D).
        seen: Observation histories.
        clean: Normalised demonstrated actions, shape (B, H, D).
        level: Level of each action, shape (B, H), on the CPU: which rows jump, and the coefficients
            of steps, follow from it there.
        next_level: Level that the jump leads to, shape (B, H), on the CPU.
    """

    x: Tensor
    seen: Seen
    clean: Tensor
    level: Tensor
    next_level: Tensor


def landing_target(
    schedule: NoiseSchedule, x: Tensor, landed: Tensor, level: Tensor, next_level: Tensor
) -> tuple[Tensor, Tensor]:
    """Clean actions whose single DDIM step lands at `landed`.

    DDIM's step solved for x0, ``(x' - (s' / s) x) / (a' - (s' / s) a)``.

    Args:
        schedule: Noise schedule.
        x: Where a jump starts, shape (B, H, D).
        landed: Where it must land, shape (B, H, D).
        level: Level of each position, shape (B, H).
        next_level: Level that the jump leads to, shape (B, H).

    Returns:
        Clean actions (B, H, D), 0 where a position does not move, and whether it moves, 0 or 1,
        shape (B, H, 1): a position that stays has nothing to learn from a jump.
    """
    signal, sigma = schedule.signal(level), schedule.sigma(level)  # a, s, (b, h)
    ratio = schedule.sigma(next_level) / sigma  # s' / s
    gain = schedule.signal(next_level) - ratio * signal
    moves = (level > next_level)[..., None]  # (b, h, 1)
    target = (landed - ratio[..., None] * x) / torch.where(moves, gain[..., None], 1.0)
    return torch.where(moves, target, 0.0), moves.float()


def jump_loss(model: DiffusionModel, inputs: J, landed: Callable[[J], Tensor]) -> Tensor:
    """Mean squared error of the clean actions that each jump aims at, shape ().

    Args:
        model: Student.
        inputs: Jumps; those of no length are ordinary denoising of demonstrations.
        landed: Where jumps must land, shape (B', H, D); called with those that have a length.
    """
    device = inputs.x.device
    jump = (inputs.level - inputs.next_level).amax(dim=1)  # (b,), on the CPU
    level = placed(inputs.level, device)
    target, weight = inputs.clean.clone(), (level > 0)[..., None].float()  # (b, h, d)
    jumping = (jump > 0).nonzero()[:, 0]
    if len(jumping):
        rows, there = inputs.select(jumping), placed(jumping, device)
        ends = (placed(one, device) for one in (rows.level, rows.next_level))
        aims, moves = landing_target(model.schedule, rows.x, landed(rows), *ends)
        clip = model.config.clip
        target[there] = aims if clip is None else aims.clamp(-clip, clip)
        weight[there] = moves
    context = inputs.seen.context(model)
    output = model.predict(inputs.x, level, context, placed(jump, device))  # (b, h, d)
    return (weight * (output - target) ** 2).mean()
