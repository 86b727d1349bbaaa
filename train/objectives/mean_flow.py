"""MeanFlow: jumps of any length learned from demonstrations, without a teacher's trajectories.

In the coordinates ``x_t = (1 - t) A + t eps`` of a linear path, t = s / (a + s), a jump from t to r
follows the average velocity ``U = (x_t - D) / t`` of the clean actions D that the network predicts.
MeanFlow (Geng et al. 2025, eq. 6) demands ``U = v - (t - r) dU/dt`` with ``v = eps - A``. In clean
actions, in which this library predicts, that is

    D = (r / t) A + (1 - r / t) D - (t - r) dD/dt,

whose right side is held fixed. The derivative is taken along the path of one pair (A, eps), whose
points at two neighbouring levels are known exactly. The error is squared and not weighted by its
own size: the published adaptive weight starves rare modes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...decoding.placed import placed
from ...decoding.schedules import NoiseSchedule
from ...policies.diffusion.model import Batch, DiffusionModel
from .objective import Drawn
from .observed import Seen, see


@dataclass(frozen=True)
class MeanFlowDraw(Drawn):
    """Jumps along the paths of pairs of action and noise; those of no length are denoising.

    Attributes:
        seen: Observation histories.
        clean: Normalised actions A, shape (B, H, D).
        noise: Gaussian noise eps, shape (B, H, D).
        level: Level of each action, shape (B, H), on the CPU, where it is known which rows jump.
        next_level: Level that the jump leads to, shape (B, H), on the CPU.
    """

    seen: Seen
    clean: Tensor
    noise: Tensor
    level: Tensor
    next_level: Tensor


def linear_time(schedule: NoiseSchedule, level: Tensor) -> Tensor:
    """Time t = s / (a + s) of a linear path at integer levels of any shape."""
    signal, sigma = schedule.signal(level), schedule.sigma(level)
    return sigma / (signal + sigma)


class MeanFlowObjective(nn.Module):
    """Average velocities of any jump, from demonstrations.

    Args:
        model: Model with jump conditioning that predicts clean actions.
        jumping: Share of samples that jump; the others are denoised.
        observation_noise: Standard deviation of the noise on normalised observations.
    """

    def __init__(
        self, model: DiffusionModel, jumping: float = 0.5, observation_noise: float = 0.0
    ) -> None:
        super().__init__()
        self.model = model
        self._jumping, self._observation_noise = jumping, observation_noise

    def prepare(self, step: int) -> None:
        """Nothing to prepare."""

    def draw(self, batch: Batch, generator: torch.Generator) -> MeanFlowDraw:
        """Levels evenly, and for a share of samples a lower one to jump to."""
        seen = see(self.model, batch, generator, self._observation_noise)
        with torch.no_grad():
            clean = self.model.action_normalizer(batch.actions)
        num, horizon, _ = clean.shape
        level = torch.randint(1, self.model.config.num_levels + 1, (num,), generator=generator)
        # A jump of one level counts as no jump, so the shortest ends two levels down.
        lower = (torch.rand(num, generator=generator) * (level - 1)).long()
        jumps = (torch.rand(num, generator=generator) < self._jumping) & (level > 1)
        next_level = torch.where(jumps, lower, level)
        noise = placed(torch.randn(clean.shape, generator=generator), clean.device)
        levels = (one[:, None].expand(-1, horizon) for one in (level, next_level))
        return MeanFlowDraw(seen, clean, noise, *levels)

    def forward(self, inputs: MeanFlowDraw) -> Tensor:
        """Mean squared error of the clean actions, shape ()."""
        model, schedule = self.model, self.model.schedule
        context, clean, device = inputs.seen.context(model), inputs.clean, inputs.clean.device
        moving = (inputs.level > inputs.next_level)[:, 0].nonzero()[:, 0]  # (r,), on the CPU
        level, next_level = (placed(one, device) for one in (inputs.level, inputs.next_level))
        jump = (level - next_level)[:, 0]  # (b,)
        output = model.predict(self._at(inputs, level), level, context, jump)  # (b, h, d)
        target = clean.clone()
        if len(moving):
            rows, moves = inputs.select(moving), placed(moving, device)
            before, below = output.detach()[moves], level[moves] - 1
            with torch.no_grad():
                after = model.predict(self._at(rows, below), below, context[moves], jump[moves] - 1)
            time, end, beside = (
                linear_time(schedule, one)[..., None]
                for one in (level[moves], next_level[moves], below)
            )
            slope = (before - after) / (time - beside)  # dD/dt
            share = end / time
            target[moves] = share * rows.clean + (1 - share) * before - (time - end) * slope
        return ((output - target) ** 2).mean()

    def _at(self, rows: MeanFlowDraw, level: Tensor) -> Tensor:
        """Points of the paths at levels (B, H), in the schedule's own scale."""
        return self.model.schedule.add_noise(rows.clean, rows.noise, level)
