"""Streaming segment distillation: one network call for what the teacher does in many.

A control step of a rolling buffer is an ODE that carries every position down by N / h levels. The
teacher integrates it in small deterministic steps; the student learns the whole jump. It learns it
from noised demonstrations and from the buffers that it produces itself (compare StreamDiT, arXiv
2507.03745, and DAgger), and keeps learning to denoise, so that one network serves every number of
calls.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...decoding.placed import placed
from ...decoding.rolling import Ladder, advance
from ...decoding.samplers import reverse, spaced_levels
from ...decoding.schedules import NoiseSchedule
from ...policies.diffusion.model import Batch, DiffusionModel
from ..config.distill import JumpDistillConfig
from ..data.windows import Windows, step_generator
from .denoising import DenoisingObjective
from .jumps import JumpDraw, jump_loss
from .observed import see


class Jump(NamedTuple):
    """One network call of the student: a level vector and the one it must reach, shape (H,)."""

    level: np.ndarray
    next_level: np.ndarray


def ladder_jumps(ladder: Ladder, num_calls: int) -> list[Jump]:
    """Jumps of a control step in `num_calls` calls."""
    levels = ladder.control_step(num_calls)
    return [Jump(*pair) for pair in pairwise(levels)]


def start_jumps(ladder: Ladder, num_calls: int) -> list[Jump]:
    """Jumps of the start buffer, whole windows at one level, h * `num_calls` of them."""
    levels = [
        np.full(ladder.horizon, level)
        for level in spaced_levels(ladder.num_levels, 0, ladder.num_chunks * num_calls)
    ]
    return [Jump(*pair) for pair in pairwise(levels)]


class JumpObjective(nn.Module):
    """Regression of the student's jumps on the teacher's deterministic integration.

    Args:
        student: Model with jump conditioning, initialised from the teacher.
        teacher: Frozen model.
        denoising: Ordinary objective of the student, for its share of the samples.
        windows: Demonstrations, for the observations that the student streams along.
        config: Shares and teacher steps.
        seed: Seed of the student's rollouts.
    """

    def __init__(
        self,
        student: DiffusionModel,
        teacher: DiffusionModel,
        denoising: DenoisingObjective,
        windows: Windows,
        config: JumpDistillConfig,
        seed: int,
    ) -> None:
        super().__init__()
        assert student.config.prediction == "sample", "jumps aim at clean actions"
        check_ladders(student)
        self.model = student
        # In a list, so that neither the optimiser nor a device wrapper sees the teacher.
        self._teacher = [teacher]
        self._denoising = [denoising]
        self._windows, self._config, self._seed = windows, config, seed
        self._ladders = list(student.delayed_ladders)
        calls = config.calls_per_step
        self._ladder_jumps = [
            jump for ladder in self._ladders for num in calls for jump in ladder_jumps(ladder, num)
        ]
        self._start_jumps = [
            jump for ladder in student.ladders for num in calls for jump in start_jumps(ladder, num)
        ]
        self._visited: VisitedBuffers | None = None

    def prepare(self, step: int) -> None:
        """Renew the student-visited buffers every `refresh_every` steps."""
        if step % self._config.refresh_every == 0 or self._visited is None:
            generator = step_generator(self._seed, step, stream="visit")
            num_visits = self._config.num_visits // (self.model.config.max_latency + 1)
            self._visited = visit(self.model, self._windows, self._ladders, num_visits, generator)

    def draw(self, batch: Batch, generator: torch.Generator) -> JumpDraw:
        """Split the batch into denoising, start, ladder and visited samples."""
        config, visited = self._config, self._visited
        assert visited is not None, "prepare() comes before draw()"
        denoising = self._denoising[0].sample(batch, generator)
        clean, noise = denoising.clean, denoising.noise[:, 0]
        num, device = len(clean), clean.device
        kind = torch.rand(num, generator=generator)  # (b,)
        is_start = (kind >= config.denoising) & (kind < config.denoising + config.start)
        is_visited = kind >= 1 - config.visited
        is_ladder = (kind >= config.denoising + config.start) & ~is_visited
        level = next_level = denoising.level[:, 0]
        for pool, chosen in ((self._start_jumps, is_start), (self._ladder_jumps, is_ladder)):
            which = torch.randint(len(pool), (num,), generator=generator)
            starts, ends = (torch.from_numpy(np.stack(side)) for side in zip(*pool, strict=True))
            level = torch.where(chosen[:, None], starts[which], level)
            next_level = torch.where(chosen[:, None], ends[which], next_level)
        which = torch.randint(len(visited.x), (num,), generator=generator)
        level = torch.where(is_visited[:, None], visited.level[which], level)
        next_level = torch.where(is_visited[:, None], visited.next_level[which], next_level)
        x = self.model.schedule.add_noise(clean, noise, placed(level, device))  # (b, h, d)
        there = placed(self._windows.gather(visited.current[which]), device)
        is_visited, which = placed(is_visited, device), placed(which, device)
        return JumpDraw(
            x=torch.where(is_visited[:, None, None], visited.x[which], x),
            seen=denoising.seen.where(is_visited, see(self.model, there, None)),
            clean=clean,
            level=level,
            next_level=next_level,
        )

    def forward(self, inputs: JumpDraw) -> Tensor:
        """Mean squared error of the clean actions that each jump aims at, shape ()."""
        return jump_loss(self.model, inputs, self._landed)

    @torch.no_grad()
    def _landed(self, rows: JumpDraw) -> Tensor:
        """Where the teacher lands in many steps, shape (B, H, D)."""
        teacher = self._teacher[0].to(rows.x.device)
        level, next_level = rows.level.numpy(), rows.next_level.numpy()
        context = rows.seen.context(teacher)
        share = np.linspace(0, 1, self._config.teacher_steps + 1)
        levels = [level - np.round(s * (level - next_level)).astype(np.int64) for s in share]
        return reverse(
            lambda x, k: teacher.predict(x, k, context),
            rows.x,
            levels,
            teacher.schedule,
            teacher.config.prediction,
        )


def check_ladders(model: DiffusionModel) -> None:
    """Raise ValueError if a model has no rolling buffer to learn jumps of."""
    if not model.ladders:
        raise ValueError("distillation needs a teacher with at least one ladder (policy=sdp)")


class VisitedBuffers(NamedTuple):
    """Buffers that the student itself produced, at the start of a control step.

    Attributes:
        x: Normalised buffers, shape (M, H, D).
        current: Windows that they were produced along, integer, shape (M,), on the CPU.
        level: Ladder of each buffer, shape (M, H), on the CPU.
        next_level: Ladder one control step on, shape (M, H), on the CPU.
    """

    x: Tensor
    current: Tensor
    level: Tensor
    next_level: Tensor


@torch.no_grad()
def visit(
    model: DiffusionModel,
    windows: Windows,
    ladders: list[Ladder],
    num_visits: int,
    generator: torch.Generator,
) -> VisitedBuffers:
    """Stream the student along demonstrations, one call per control step, and keep its buffers.

    Args:
        model: Student.
        windows: Demonstrations.
        ladders: Ladders to stream on; each gives `num_visits` rows.
        num_visits: Rows per ladder, each streamed until all of its buffer is the student's own.
        generator: Source of start points and noise.
    """
    schedule, device = model.schedule, model.action_normalizer.scale.device
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for ladder in ladders:
        level, next_level = (
            torch.from_numpy(ladder.levels(j)) for j in (0, ladder.levels_per_step)
        )
        current = torch.randint(len(windows), (num_visits,), generator=generator)
        clean = model.action_normalizer(windows.gather(current).actions.to(device))
        noise = torch.randn(clean.shape, generator=generator).to(device)
        x = schedule.add_noise(clean, noise, level.expand(num_visits, -1).to(device))  # (m, h, d)
        jump = torch.full((num_visits,), ladder.levels_per_step, device=device)
        for control_step in range(ladder.num_chunks + 1):
            context = see(model, windows.gather(current).to(device), None).context(model)
            if control_step > 0:
                keep = torch.rand(num_visits, generator=generator) < 2 / (ladder.num_chunks + 1)
                size = (int(keep.sum()), -1)
                kept = x[keep.to(device)]
                parts.append((kept, current[keep], level.expand(size), next_level.expand(size)))
            landed = reverse(
                lambda x, k, o=context, j=jump: model.predict(x, k, o, j),
                x,
                [ladder.levels(0), ladder.levels(ladder.levels_per_step)],
                schedule,
                model.config.prediction,
            )
            x = shift(landed, ladder, schedule, generator)
            current = windows.later(current, ladder.num_execute)
    return VisitedBuffers(*(torch.cat(column) for column in zip(*parts, strict=True)))


def shift(
    landed: Tensor, ladder: Ladder, schedule: NoiseSchedule, generator: torch.Generator
) -> Tensor:
    """Bring a buffer (M, H, D) from the end of a control step to the start of the next."""
    num_past, chunk = ladder.num_past, ladder.num_execute
    fresh = torch.randn(landed.shape, generator=generator).to(landed.device)
    executed = landed[:, chunk : chunk + num_past]  # (m, num_past, d)
    level = torch.full(executed.shape[:2], ladder.levels_per_step, device=landed.device)
    past = schedule.add_noise(executed, fresh[:, chunk : chunk + num_past], level)
    return advance(landed, past, fresh[:, :chunk])
