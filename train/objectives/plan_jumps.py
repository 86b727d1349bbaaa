"""Plans in one or two calls: regression of a student's jumps on plans that its teacher has made.

The teacher plans as it is sampled, both passes of its guidance, the gradients of its value and its
drafts included, but without noise between its calls. Where it is after each of them is kept, and
one call of the student must land at a later point of that way from an earlier one (knowledge
distillation as in Luhman and Luhman 2021, arXiv 2101.02388, for any two points of a trajectory).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ...decoding.placed import placed
from ...decoding.samplers import spaced_levels, step_coefficients
from ...policies.place import place_of
from ...policies.planners.config import PlannerSampling
from ...policies.planners.model import PlanBatch, PlannerModel
from ...policies.planners.stages import num_found
from ..config.distill import GuidanceDistillConfig
from ..data.plan_windows import PlanWindows
from ..data.windows import step_generator
from .guidance import GuidanceDraw, GuidanceObjective, predicted
from .teacher_plans import PlanningTeacher, TeacherPlans, start_level, taught_weights


@dataclass(frozen=True)
class PlanJumpDraw(GuidanceDraw):
    """Jumps to learn, and noisy plans to guide, which are jumps of no length.

    Attributes:
        next_level: Level that the jump leads to, shape (B, H), on the CPU.
        landed: Where it must land, shape (B, H, P).
    """

    next_level: Tensor
    landed: Tensor


class PlanJumpObjective(nn.Module):
    """Regression of the student's jumps on its teacher's way.

    Args:
        student: Model to train, with jump conditioning; see `guidance_student`.
        teacher: Frozen planner.
        windows: Demonstrations, for the states that plans begin at.
        sampling: How the student will plan.
        config: Numbers of calls, shares of the samples, and the teacher's plans.
        seed: Seed of the teacher's plans.
    """

    def __init__(
        self,
        student: PlannerModel,
        teacher: PlannerModel,
        windows: PlanWindows,
        sampling: PlannerSampling,
        config: GuidanceDistillConfig,
        seed: int,
    ) -> None:
        super().__init__()
        self.model, self._config, self._seed = student, config, seed
        start = start_level(student, sampling)
        num_steps = min(config.teacher_steps, start)
        weights = taught_weights(student, sampling)
        self._teacher = [
            PlanningTeacher(teacher, windows, sampling, weights, num_steps, config.state_noise)
        ]
        self._denoising = [GuidanceObjective(student, teacher)]
        # Gradients of a value move a plan before it is denoised, so that no single prediction of
        # the teacher's is what a student should predict without a jump.
        self._denoising_share = 0.0 if sampling.value_steps else config.denoising
        self._weight = state_weights(student, sampling, config.executed)
        self._ladder = ladder_jumps(start, num_steps, config.calls_per_step)
        self._plans: TeacherPlans | None = None
        self._block = -1

    def prepare(self, step: int) -> None:
        """Let the teacher make new plans every `refresh_every` steps.

        They depend on the step alone, so a run that is resumed learns from the same ones.
        """
        block = step // self._config.refresh_every
        if block != self._block:
            generator = step_generator(self._seed, block, stream="plans")
            teacher = self._teacher[0].to(place_of(self.model))
            self._plans = teacher.plan(self._config.num_plans, generator)
            self._block = block

    def draw(self, batch: PlanBatch, generator: torch.Generator) -> PlanJumpDraw:
        """Split the batch into plans to denoise, and jumps: whole ones, ladder ones, any."""
        plans, teacher = self._plans, self._teacher[0]
        assert plans is not None, "prepare() comes before draw()"
        denoising = self._denoising[0].draw(batch, generator)
        num, device = len(denoising.x), denoising.x.device
        kind = torch.rand(num, generator=generator)  # (b,)
        is_jump = kind >= self._denoising_share
        is_any = is_jump & (kind >= 1 - self._config.anywhere)
        last = len(teacher.levels) - 1
        begin = (torch.rand(num, generator=generator) * last).long()
        end = begin + 1 + (torch.rand(num, generator=generator) * (last - begin)).long()
        ladder = torch.tensor(self._ladder)[
            torch.randint(len(self._ladder), (num,), generator=generator)
        ]
        begin, end = torch.where(is_any, torch.stack([begin, end]), ladder.T)  # (b,) each
        which = torch.randint(plans.x.shape[1], (num,), generator=generator)
        level, next_level = (
            torch.where(is_jump[:, None], teacher.levels[at], denoising.level)
            for at in (begin, end)
        )
        begin, end, which, is_jump = (placed(one, device) for one in (begin, end, which, is_jump))

        def mix(denoised: Tensor, planned: Tensor) -> Tensor:
            return torch.where(is_jump.view(-1, *[1] * (denoised.ndim - 1)), planned, denoised)

        return PlanJumpDraw(
            x=mix(denoising.x, plans.x[begin, which]),
            level=level,
            return_to_go=mix(denoising.return_to_go, plans.return_to_go[which]),
            weight=mix(denoising.weight, plans.weight[which]),
            next_level=next_level,
            landed=mix(denoising.x, plans.x[end, which]),
        )

    def forward(self, inputs: PlanJumpDraw) -> Tensor:
        """Mean squared difference to the predictions that land there, where a plan moves."""
        jump = (inputs.level - inputs.next_level).amax(dim=1)  # (b,), on the CPU
        target, counts = landing_target(self.model, inputs)
        denoised = (jump == 0).nonzero()[:, 0]
        if len(denoised):
            rows, there = inputs.select(denoised), placed(denoised, target.device)
            target[there] = self.denoised_target(rows)
            counts[there] = placed(rows.level > 0, target.device).unsqueeze(-1).float()
        error = (predicted(self.model, inputs, jump) - target) ** 2  # (b, h, p)
        return (placed(self._weight, error.device) * counts * error).mean()

    def denoised_target(self, rows: PlanJumpDraw) -> Tensor:
        """The teacher's guided predictions, in what the student predicts, shape (B, H, P)."""
        target = self._denoising[0].target(rows)
        if self.model.config.prediction == self._teacher[0].prediction:
            return target
        level = placed(rows.level, target.device)
        schedule = self.model.schedule  # noise to clean plans
        signal, sigma = (one(level).unsqueeze(-1) for one in (schedule.signal, schedule.sigma))
        clip = self.model.config.clip
        return ((rows.x - sigma * target) / signal).clamp(-clip, clip)


def landing_target(model: PlannerModel, inputs: PlanJumpDraw) -> tuple[Tensor, Tensor]:
    """Predictions whose single DDIM step lands where it must.

    A step that does not clip is affine, ``x' = A x + B f``, and so is its solution for f.

    Returns:
        Predictions (B, H, P), 0 where a position does not move, and whether it moves, (B, H, 1).
    """
    level, next_level = inputs.level.numpy(), inputs.next_level.numpy()
    step = step_coefficients(model.schedule, level, next_level, model.config.prediction, "ddim")
    p_x, p_f, c_0, c_x, c_f, _ = placed(step.tensor(), inputs.x.device)  # each (b, h, 1)
    moves = placed(inputs.level > inputs.next_level, inputs.x.device).unsqueeze(-1)  # (b, h, 1)
    gain = torch.where(moves, c_0 * p_f + c_f, 1.0)  # B
    target = (inputs.landed - (c_0 * p_x + c_x) * inputs.x) / gain
    return torch.where(moves, target, 0.0), moves.float()


def state_weights(model: PlannerModel, sampling: PlannerSampling, executed: float) -> Tensor:
    """Weights of a plan's states in the loss, of mean 1, shape (H, 1)."""
    weight = torch.ones(model.config.horizon, 1)
    weight[1 : 1 + num_found(model, sampling)] = executed
    return weight / weight.mean()


def ladder_jumps(start: int, num_steps: int, calls: Sequence[int]) -> list[tuple[int, int]]:
    """Jumps of plans in these numbers of calls, as indices into the teacher's `num_steps` steps.

    Of n calls their share is in proportion to 1 / n, since errors of few calls are large.

    Raises:
        ValueError: If a plan has no so many levels, or the teacher does not visit them.
    """
    levels = spaced_levels(start, 0, num_steps).tolist()
    jumps: list[tuple[int, int]] = []
    for num in calls:
        wanted = spaced_levels(start, 0, num).tolist() if num <= num_steps else []
        if not wanted or not set(wanted) <= set(levels):
            raise ValueError(
                f"distill.calls_per_step: {num} calls do not fit the {num_steps} steps of the "
                f"teacher from level {start}; distill.teacher_steps must be a multiple of them"
            )
        ends = [levels.index(level) for level in wanted]
        jumps += [*pairwise(ends)] * (math.lcm(*calls) // num) ** 2
    return jumps
