"""Consistency distillation: where two neighbouring points of a trajectory must agree.

From a point of its teacher's trajectory the student must land where it lands itself from the next
point. Of trajectories in as many segments as calls, both land at the end of their segment
(trajectory-segmented consistency, Hyper-SD, arXiv 2404.13686); or at any later point (consistency
trajectory models, arXiv 2310.02279). The trajectories are the teacher's own, as in image-free
timestep distillation (TBCM, arXiv 2511.20410), not noised demonstrations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...decoding.placed import placed
from ...decoding.samplers import apply_step, step_coefficients
from ...policies.diffusion.model import DiffusionModel
from ..config.distill import ConsistencyConfig
from ..distillation.trajectories import TrajectoryBatch, TrajectoryWindows
from .flow_map import JumpTable
from .jumps import JumpDraw, jump_loss


@dataclass(frozen=True)
class ConsistencyDraw(JumpDraw):
    """Jumps to learn, and the point after the one that each starts from.

    Attributes:
        later: Normalised actions at that point, shape (B, H, D).
        later_level: Its level, at least `next_level`, shape (B, H), on the CPU.
    """

    later: Tensor
    later_level: Tensor


class ConsistencyObjective(nn.Module):
    """Agreement of the student's jumps from neighbouring points of its teacher's trajectories.

    Args:
        student: Model with jump conditioning, initialised from the teacher.
        windows: Trajectories.
        config: Numbers of calls and where jumps end.
    """

    def __init__(
        self, student: DiffusionModel, windows: TrajectoryWindows, config: ConsistencyConfig
    ) -> None:
        super().__init__()
        self.model, self._denoising = student, config.denoising
        self._levels = torch.from_numpy(windows.bank.levels)
        any_jump = 1.0 if config.target == "any" else 0.0
        self._table = JumpTable(windows.bank.levels, config.calls_per_step, any_jump)

    def prepare(self, step: int) -> None:
        """Nothing to prepare."""

    def draw(self, batch: TrajectoryBatch, generator: torch.Generator) -> ConsistencyDraw:
        """Choose a point of each trajectory, the one after it, and where both must land."""
        num, device, horizon = len(batch.states), batch.states.device, batch.states.shape[2]
        begin, end = self._table.draw(num, generator)
        # Anywhere between the ends of the jump, which is as long as there are points.
        share = torch.rand(num, generator=generator)
        begin = begin + (share * (end - begin)).long().clamp(max=end - begin - 1)
        denoised = torch.randint(1, self.model.config.num_levels + 1, (num,), generator=generator)
        noise = placed(torch.randn(batch.states[:, 0].shape, generator=generator), device)
        is_denoising = torch.rand(num, generator=generator) < self._denoising
        level, later, last = (
            torch.where(is_denoising, denoised, self._levels[at])[:, None].expand(-1, horizon)
            for at in (begin, begin + 1, end)
        )
        rows = torch.arange(num, device=device)
        with torch.no_grad():
            clean = self.model.action_normalizer(batch.actions)
        noised = self.model.schedule.add_noise(clean, noise, placed(level, device))
        before, after = (batch.states[rows, placed(at, device)] for at in (begin, begin + 1))
        x = torch.where(placed(is_denoising, device)[:, None, None], noised, before)
        return ConsistencyDraw(x, batch.seen, clean, level, last, after, later)

    def forward(self, inputs: ConsistencyDraw) -> Tensor:
        """Mean squared error of the clean actions that each jump aims at, shape ()."""
        return jump_loss(self.model, inputs, self._landed)

    @torch.no_grad()
    def _landed(self, rows: ConsistencyDraw) -> Tensor:
        """Where the student lands from the later point, or that point if the jump ends there."""
        model, x = self.model, rows.later
        size = (rows.later_level - rows.next_level).amax(dim=1)  # (b,)
        later_level, size = (placed(one, x.device) for one in (rows.later_level, size))
        output = model.predict(x, later_level, rows.seen.context(model), size)
        level, next_level = rows.later_level.numpy(), rows.next_level.numpy()
        step = step_coefficients(model.schedule, level, next_level, model.config.prediction, "ddim")
        return apply_step(x, output, step, clip=model.config.clip)
