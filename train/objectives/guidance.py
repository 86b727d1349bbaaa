"""Guidance in one pass: a student that predicts what its teacher predicts with guidance.

Classifier-free guidance takes a conditional and an unconditional prediction per step. The student
makes one and is trained on the combination of the teacher's two, for one fixed weight (the first
stage of Meng et al. 2023, arXiv 2210.03142).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import repeat
from torch import Tensor, nn

from ...decoding.guidance import classifier_free
from ...policies.planners.model import PlanBatch, PlannerModel
from .objective import Drawn
from .planning import PlannerObjective


@dataclass(frozen=True)
class GuidanceDraw(Drawn):
    """Windows to plan in, with what is drawn for them; T = context + H - 1.

    Attributes:
        states: Physical, shape (B, T, O).
        actions: Physical, shape (B, T, A).
        level: Noise level of each state, shape (B, H).
        noise: Gaussian noise, shape (B, H, P).
        return_to_go: Returns that are asked for, shape (B,).
    """

    states: Tensor
    actions: Tensor
    level: Tensor
    noise: Tensor
    return_to_go: Tensor


def guidance_student(teacher: PlannerModel, weight: float) -> PlannerModel:
    """A copy of a planner whose denoiser can be trained, and is meant to hold a guidance weight."""
    config = replace(teacher.config, distilled_guidance=weight)
    student = PlannerModel(config, teacher.observation_shapes, teacher.action_dim)
    student.load_state_dict(teacher.state_dict())
    student.requires_grad_(False)
    student.denoiser.requires_grad_(True)
    return student


class GuidanceObjective(nn.Module):
    """Regression of the student's one prediction on the teacher's guided one.

    Args:
        student: Model to train; see `guidance_student`.
        teacher: Frozen planner.
    """

    def __init__(self, student: PlannerModel, teacher: PlannerModel) -> None:
        super().__init__()
        assert student.config.distilled_guidance is not None
        self.model, self.weight = student, student.config.distilled_guidance
        # In a list, so that neither the optimiser nor a device wrapper sees the teacher.
        self._teacher = [teacher]
        self._planning = [PlannerObjective(student)]

    def prepare(self, step: int) -> None:
        """Nothing to prepare."""

    def draw(self, batch: PlanBatch, generator: torch.Generator) -> GuidanceDraw:
        """Draw noise level, noise and the return asked for, for each sample.

        Half of the samples are asked for the return of another: guidance matters most where more
        is asked for than was seen.
        """
        inputs = self._planning[0].draw(batch, generator)
        num, current = len(batch.states), self.model.config.context - 1
        other = torch.randperm(num, generator=generator)
        swapped = torch.rand(num, generator=generator) < 0.5
        own = torch.arange(num)
        chosen = torch.where(swapped, other, own).to(batch.returns.device)
        return_to_go = batch.returns[chosen, current]  # (b,)
        return GuidanceDraw(inputs.states, inputs.actions, inputs.level, inputs.noise, return_to_go)

    def forward(self, inputs: GuidanceDraw) -> Tensor:
        """Mean squared difference where a plan is noisy, shape ()."""
        model, past, levels = self.model, self.model.config.context - 1, inputs.level
        clean = model.encode_plan(inputs.states[:, past:], inputs.actions[:, past:])  # (b, h, p)
        x = model.schedule.add_noise(clean, inputs.noise, levels)  # (b, h, p)
        known = torch.ones_like(inputs.return_to_go)
        conditions = [model.condition(inputs.return_to_go, keep) for keep in (known, 0 * known)]
        scaled = levels / model.config.num_levels
        with torch.no_grad():
            teacher = self._teacher[0].to(x.device).denoiser
            modulation = teacher.embed_level(scaled)

            def denoise(x: Tensor, condition: Tensor) -> Tensor:
                passes = len(x) // len(modulation)  # both at once where both are needed
                both = repeat(modulation, "b ... -> (passes b) ...", passes=passes)
                return teacher.denoise(x, both, condition)

            encoded = [teacher.encode(condition) for condition in conditions]
            target = classifier_free(denoise, x, encoded[0], encoded[1], self.weight)  # (b, h, p)
        output = model.denoiser(x, scaled, conditions[0])  # (b, h, p)
        noisy = (levels > 0).unsqueeze(-1)  # (b, h, 1)
        return (noisy * (output - target) ** 2).mean()
