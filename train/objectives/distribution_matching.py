"""Distribution matching with a pair anchor: a student's samples are pushed towards its teacher's.

A critic is trained to denoise what the student samples, and the difference between what critic and
teacher make of a noised sample says where the sample must move (DMD, Yin et al. 2024, eq. 7; DMD2,
arXiv 2405.14867). It sheds rare modes, which jumps along the teacher's trajectories hold fast.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ...decoding.samplers import reverse, spaced_levels
from ...policies.diffusion.model import DiffusionModel
from ..config.distill import DistributionMatchingConfig
from ..distillation.trajectories import TrajectoryBatch
from .flow_map import FlowMapObjective, LandingDraw, jump
from .objective import Drawn

_LEAST, _MOST = 0.02, 0.98  # levels at which samples are judged, in shares of N


class StudentAndCritic(nn.Module):
    """What is trained, in one module, so that a run keeps and resumes both.

    Args:
        student: Model with jump conditioning.
        teacher: Model that the critic is a copy of at first.
    """

    def __init__(self, student: DiffusionModel, teacher: DiffusionModel) -> None:
        super().__init__()
        self.student, self.critic = student, copy.deepcopy(teacher).requires_grad_(True)
        if self.critic.vision is not None:
            self.critic.vision.requires_grad_(False)


@dataclass(frozen=True)
class MatchingDraw(Drawn):
    """Samples that a student makes, and how they are noised to be judged.

    Attributes:
        anchor: Jumps along the teacher's trajectories.
        start: Noise that samples begin from, shape (B, H, D).
        calls: Calls that make a sample, shape (B,).
        level: Levels at which samples are judged, shape (B, n, H); the critic learns at all of
            them, the student is judged at the first.
        noise: Gaussian noise, shape (B, n, H, D).
    """

    anchor: LandingDraw
    start: Tensor
    calls: Tensor
    level: Tensor
    noise: Tensor


class DistributionMatchingObjective(nn.Module):
    """Score difference of teacher and critic, the critic's own loss, and the anchor.

    Args:
        both: Student and critic.
        teacher: Frozen model.
        anchor: The student's jumps along its teacher's trajectories.
        config: Weight of the anchor, draws of the critic and numbers of calls.
    """

    def __init__(
        self,
        both: StudentAndCritic,
        teacher: DiffusionModel,
        anchor: FlowMapObjective,
        config: DistributionMatchingConfig,
    ) -> None:
        super().__init__()
        self.model = both
        # In lists, so that neither the optimiser nor a device wrapper sees them.
        self._teacher, self._anchor = [teacher], [anchor]
        self._config = config

    def prepare(self, step: int) -> None:
        """As the anchor."""
        self._anchor[0].prepare(step)

    def draw(self, batch: TrajectoryBatch, generator: torch.Generator) -> MatchingDraw:
        """Jumps of the anchor, starts of samples, and noise to judge them by."""
        anchor = self._anchor[0].draw(batch, generator)
        (num, horizon, size), device = anchor.x.shape, anchor.x.device
        draws, num_levels = self._config.critic_draws, self.model.student.config.num_levels
        start = torch.randn(num, horizon, size, generator=generator)
        which = torch.randint(len(self._config.calls_per_step), (num,), generator=generator)
        share = _LEAST + (_MOST - _LEAST) * torch.rand(num, draws, generator=generator)
        level = (share * num_levels).round().long().clamp(min=1)
        noise = torch.randn(num, draws, horizon, size, generator=generator)
        return MatchingDraw(
            anchor,
            start.to(device),
            torch.tensor(self._config.calls_per_step)[which].to(device),
            level[..., None].expand(-1, -1, horizon).to(device),
            noise.to(device),
        )

    def forward(self, inputs: MatchingDraw) -> Tensor:
        """Losses of student, critic and anchor, weighted and summed, shape ()."""
        student, critic, teacher = self.model.student, self.model.critic, self._teacher[0]
        teacher.to(inputs.start.device)
        context = inputs.anchor.seen.context(student)
        samples = self._sample(inputs, context)  # (b, h, d)
        fixed = samples.detach()
        level, noise = inputs.level, inputs.noise
        x = student.schedule.add_noise(fixed, noise[:, 0], level[:, 0])
        with torch.no_grad():
            real = clean_estimate(teacher, x, level[:, 0], context)
            fake = clean_estimate(critic, x, level[:, 0], context)
            size = (fixed - real).abs().mean(dim=(1, 2), keepdim=True).clamp(min=1e-3)
            aim = fixed - (fake - real) / size
        matching = 0.5 * ((samples - aim) ** 2).mean()
        draws = level.shape[1]
        repeated = fixed.repeat_interleave(draws, dim=0)
        level, noise = level.flatten(0, 1), noise.flatten(0, 1)
        noised = critic.schedule.add_noise(repeated, noise, level)
        output = critic.predict(noised, level, context.repeat_interleave(draws, dim=0))
        learning = ((output - critic.target(repeated, noise, level)) ** 2).mean()
        return self._config.matching * matching + learning + self._anchor[0](inputs.anchor)

    def _sample(self, inputs: MatchingDraw, context: Tensor) -> Tensor:
        """What the student samples, with the gradient of its last call."""
        student, x = self.model.student, inputs.start.clone()
        begin = torch.full_like(inputs.calls, student.config.num_levels)
        for num in self._config.calls_per_step:
            rows = inputs.calls == num
            if num == 1 or not rows.any():
                continue
            path = spaced_levels(student.config.num_levels, 0, num)[:-1]
            for first, last in pairwise(path.tolist()):
                x[rows] = jump(student, context[rows], x[rows], first, last)
            begin[rows] = int(path[-1])
        level = begin[:, None].expand(-1, x.shape[1])
        return student.predict(x, level, context, begin)


def clean_estimate(model: DiffusionModel, x: Tensor, level: Tensor, context: Tensor) -> Tensor:
    """The clean actions that a model sees in noisy ones, both (B, H, D); levels (B, H)."""
    levels = [level.cpu().numpy(), torch.zeros_like(level).cpu().numpy()]
    return reverse(
        lambda x, k: model.predict(x, k.to(x.device), context),
        x,
        levels,
        model.schedule,
        model.config.prediction,
        clip=model.config.clip,
    )
