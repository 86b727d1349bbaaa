"""Flow-map distillation: jumps between stored points of a teacher's trajectories.

A teacher's deterministic sampler carries noise to actions along one curve. The student is shown a
point of the curve and learns a later one (AccVideo, arXiv 2503.19462; "Improving the Training of
Rectified Flows", arXiv 2405.20320): a target without variance and without bootstrapping. One
network learns the jumps of one, two and four calls, and between any two points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from ...decoding.placed import placed
from ...decoding.samplers import reverse, spaced_levels
from ...policies.diffusion.model import DiffusionModel
from ..config.distill import FlowMapConfig
from ..data.windows import step_generator
from ..distillation.bank import integrate
from ..distillation.trajectories import TrajectoryBatch, TrajectoryWindows
from .jumps import JumpDraw, jump_loss
from .observed import Seen


@dataclass(frozen=True)
class LandingDraw(JumpDraw):
    """Jumps to learn with where they must land.

    Attributes:
        landed: Normalised actions at `next_level`, shape (B, H, D); read for jumps alone.
    """

    landed: Tensor


class JumpTable:
    """Jumps between points of trajectories, and how often each is drawn.

    Args:
        levels: Levels of the points, descending, shape (K + 1,).
        calls: Numbers of calls; n of them make n jumps, which are drawn as often as 1 / n says.
        any_jump: Share of jumps from any point to any later one.
    """

    def __init__(self, levels: np.ndarray, calls: Sequence[int], any_jump: float) -> None:
        at = {int(level): index for index, level in enumerate(levels)}
        num_levels = int(levels[0])
        pairs: list[tuple[int, int]] = []
        weights: list[float] = []
        total = sum(1 / num for num in calls)
        for num in calls:
            path = spaced_levels(num_levels, 0, num).tolist()
            pairs += [(at[begin], at[end]) for begin, end in pairwise(path)]
            weights += [(1 - any_jump) / num / total / num] * num
        every = [(i, j) for j in range(len(levels)) for i in range(j)]
        pairs += every
        weights += [any_jump / len(every)] * len(every)
        self.pairs, self.weights = torch.tensor(pairs), torch.tensor(weights)

    def draw(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """First and last points of `num` jumps, integer, shape (num,) each."""
        which = torch.multinomial(self.weights, num, replacement=True, generator=generator)
        begin, end = self.pairs[which].unbind(1)
        return begin, end


class FlowMapObjective(nn.Module):
    """Regression of the student's jumps on points of its teacher's trajectories.

    Args:
        student: Model with jump conditioning, initialised from the teacher.
        teacher: Frozen model; labels the points that the student itself reaches.
        windows: Trajectories.
        config: Shares.
        seed: Seed of the student's visits.
    """

    def __init__(
        self,
        student: DiffusionModel,
        teacher: DiffusionModel,
        windows: TrajectoryWindows,
        config: FlowMapConfig,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = student
        # In a list, so that neither the optimiser nor a device wrapper sees the teacher.
        self._teacher = [teacher]
        self._windows, self._config, self._seed = windows, config, seed
        self._levels = torch.from_numpy(windows.bank.levels)
        jumping = 1 - config.denoising - config.visited
        any_jump = config.any_jump / jumping if jumping else 0.0
        self._table = JumpTable(windows.bank.levels, config.calls_per_step, any_jump)
        # A student of one call comes to no point of its own.
        self._visited_share = config.visited if max(config.calls_per_step) > 1 else 0.0
        self._visited: LandingDraw | None = None

    def prepare(self, step: int) -> None:
        """Renew the points that the student reaches every `refresh_every` steps."""
        if not self._visited_share:
            return
        if step % self._config.refresh_every == 0 or self._visited is None:
            generator = step_generator(self._seed, step, stream="visit")
            teacher = self._teacher[0].to(self.model.action_normalizer.scale.device)
            self._visited = visit(self.model, teacher, self._windows, self._config, generator)

    def draw(self, batch: TrajectoryBatch, generator: torch.Generator) -> LandingDraw:
        """Split the batch into denoising, jumps of the teacher's points, and visited points."""
        num, device, horizon = len(batch.states), batch.states.device, batch.states.shape[2]
        kind = torch.rand(num, generator=generator)  # (b,)
        begin, end = self._table.draw(num, generator)
        denoised = torch.randint(1, self.model.config.num_levels + 1, (num,), generator=generator)
        noise = placed(torch.randn(batch.states[:, 0].shape, generator=generator), device)
        is_denoising = kind < self._config.denoising
        level, next_level = (
            torch.where(is_denoising, denoised, self._levels[at])[:, None].expand(-1, horizon)
            for at in (begin, end)
        )
        rows = torch.arange(num, device=device)
        x, landed = (batch.states[rows, placed(at, device)] for at in (begin, end))  # (b, h, d)
        with torch.no_grad():
            clean = self.model.action_normalizer(batch.actions)
        noised = self.model.schedule.add_noise(clean, noise, placed(level, device))
        x = torch.where(placed(is_denoising, device)[:, None, None], noised, x)
        drawn = LandingDraw(x, batch.seen, clean, level, next_level, landed)
        if self._visited is None:
            return drawn
        which = torch.randint(len(self._visited.x), (num,), generator=generator)
        is_visited = kind >= 1 - self._visited_share
        return _where(is_visited, self._visited.select(which), drawn)

    def forward(self, inputs: LandingDraw) -> Tensor:
        """Mean squared error of the clean actions that each jump aims at, shape ()."""
        return jump_loss(self.model, inputs, lambda rows: rows.landed)


@torch.no_grad()
def visit(
    student: DiffusionModel,
    teacher: DiffusionModel,
    windows: TrajectoryWindows,
    config: FlowMapConfig,
    generator: torch.Generator,
) -> LandingDraw:
    """Points that the student reaches between its calls, with where its teacher goes from there.

    Args:
        student: Model in training.
        teacher: Frozen model on the same device.
        windows: Trajectories, for the observations that the student is shown.
        config: Numbers of calls, of which one is above 1, and of points.
        generator: Source of windows and noise.
    """
    device, num_levels = student.action_normalizer.scale.device, student.config.num_levels
    fine = spaced_levels(num_levels, 0, config.solver_steps)
    calls = [num for num in config.calls_per_step if num > 1]
    num_rows = -(-config.num_visits // sum(num - 1 for num in calls))
    parts: list[LandingDraw] = []
    for num in calls:
        rows = torch.randint(len(windows), (num_rows,), generator=generator)
        batch = windows.gather(rows).to(device)
        context = batch.seen.context(student)
        x = torch.randn(num_rows, *student.window_shape, generator=generator).to(device)
        for begin, end in pairwise(spaced_levels(num_levels, 0, num).tolist()):
            if begin < num_levels:
                landed = integrate(teacher, context, x, np.array([begin, end]), fine)[:, 1]
                level, next_level = (torch.full(x.shape[:2], one) for one in (begin, end))
                parts.append(LandingDraw(x, batch.seen, landed, level, next_level, landed))
            x = jump(student, context, x, begin, end)
    return _joined(parts)


@torch.no_grad()
def jump(model: DiffusionModel, context: Tensor, x: Tensor, begin: int, end: int) -> Tensor:
    """One call of a student, from actions (B, H, D) at level `begin` to level `end`."""
    size = torch.full((len(x),), begin - end, device=x.device)
    levels = [np.full(x.shape[1], level) for level in (begin, end)]
    return reverse(
        lambda x, k: model.predict(x, k, context, size),
        x,
        levels,
        model.schedule,
        model.config.prediction,
        clip=model.config.clip,
    )


def _where(chosen: Tensor, one: LandingDraw, other: LandingDraw) -> LandingDraw:
    """`one` in the rows that are chosen, bool of shape (B,) on the CPU, `other` in the rest."""
    there = placed(chosen, one.x.device)

    def mix(name: str) -> Tensor:
        value, rest = getattr(one, name), getattr(other, name)
        rows = chosen if value.device == chosen.device else there
        return torch.where(rows.view(-1, *[1] * (value.ndim - 1)), value, rest)

    mixed = {name: mix(name) for name in vars(one) if name != "seen"}
    return LandingDraw(seen=other.seen.where(there, one.seen), **mixed)


def _joined(parts: list[LandingDraw]) -> LandingDraw:
    """The rows of all parts."""
    joined = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in vars(parts[0])
        if name != "seen"
    }
    features = [part.seen.features for part in parts if part.seen.features is not None]
    vectors = torch.cat([part.seen.vectors for part in parts])
    seen = Seen(vectors, features=torch.cat(features) if features else None)
    return LandingDraw(seen=seen, **joined)
