"""Guidance in one pass: a student that predicts what its teacher predicts with guidance.

Classifier-free guidance takes a conditional and an unconditional prediction per step. The student
makes one and is trained on the combination of the teacher's two, for one weight, or for all of a
range of which it is told one (the first stage of Meng et al. 2023, arXiv 2210.03142).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from einops import repeat
from torch import Tensor, nn

from ...decoding.guidance import classifier_free
from ...decoding.placed import placed
from ...policies.planners.model import PlanBatch, PlannerModel
from .objective import Drawn
from .planning import PlannerObjective


@dataclass(frozen=True)
class GuidanceDraw(Drawn):
    """Noisy plans, and what they are asked for.

    Attributes:
        x: Encoded plans, shape (B, H, P).
        level: Noise level of each state, shape (B, H), on the CPU.
        return_to_go: Returns that are asked for, shape (B,).
        weight: Guidance weights, shape (B,).
    """

    x: Tensor
    level: Tensor
    return_to_go: Tensor
    weight: Tensor


def guidance_student(
    teacher: PlannerModel,
    guidance: float | tuple[float, float] | None,
    jump: bool = False,
    seed: int = 0,
) -> PlannerModel:
    """A copy of a planner whose denoiser can be trained.

    Args:
        teacher: Trained planner.
        guidance: Weight that the denoiser is meant to hold, or the range of those it is told; None
            where there is none to hold.
        jump: Whether it is told how far its calls jump. It then predicts clean plans if its teacher
            predicts noise, from which no jump can begin at pure noise.
        seed: Of what it has beyond its teacher.
    """
    prediction = teacher.config.prediction
    config = replace(
        teacher.config,
        distilled_guidance=guidance,
        jump=jump,
        prediction="sample" if jump and prediction == "epsilon" else prediction,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = PlannerModel(config, teacher.observation_shapes, teacher.action_dim)
    student.load_state_dict(_widened(teacher.state_dict(), student.state_dict()))
    student.requires_grad_(False)
    student.denoiser.requires_grad_(True)
    return student


def _widened(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights for a network with a wider condition, to which it is deaf at first."""
    result = dict(wanted)  # what is only here, embeds jumps and is silent at first too
    for name, value in weights.items():
        result[name] = value
        if value.shape != wanted[name].shape:
            result[name] = torch.zeros_like(wanted[name])
            result[name][..., : value.shape[-1]] = value
    return result


class GuidanceObjective(nn.Module):
    """Regression of the student's one prediction on the teacher's guided one.

    Args:
        student: Model to train; see `guidance_student`.
        teacher: Frozen planner.
    """

    def __init__(self, student: PlannerModel, teacher: PlannerModel) -> None:
        super().__init__()
        self.model = student
        # In a list, so that neither the optimiser nor a device wrapper sees the teacher.
        self._teacher = [teacher]
        self._planning = [PlannerObjective(student)]

    def prepare(self, step: int) -> None:
        """Nothing to prepare."""

    def draw(self, batch: PlanBatch, generator: torch.Generator) -> GuidanceDraw:
        """Draw noise level, noise, the return asked for and its weight, for each sample.

        Half of the samples are asked for the return of another: guidance matters most where more
        is asked for than was seen.
        """
        model, past = self.model, self.model.config.context - 1
        inputs = self._planning[0].sample(batch, generator)
        num, device = len(batch.states), batch.states.device
        other = torch.randperm(num, generator=generator)
        swapped = torch.rand(num, generator=generator) < 0.5
        own = torch.arange(num)
        chosen = placed(torch.where(swapped, other, own), device)
        clean = model.encode_plan(inputs.states[:, past:], inputs.actions[:, past:])  # (b, h, p)
        return GuidanceDraw(
            x=model.schedule.add_noise(clean, inputs.noise, placed(inputs.level, device)),
            level=inputs.level,
            return_to_go=batch.returns[chosen, past],
            weight=placed(self._weights(num, generator), device),
        )

    def forward(self, inputs: GuidanceDraw) -> Tensor:
        """Mean squared difference where a plan is noisy, shape ()."""
        output = predicted(self.model, inputs, torch.zeros_like(inputs.weight))  # (b, h, p)
        noisy = placed(inputs.level > 0, output.device).unsqueeze(-1)  # (b, h, 1)
        return (noisy * (output - self.target(inputs)) ** 2).mean()

    @torch.no_grad()
    def target(self, inputs: GuidanceDraw) -> Tensor:
        """The teacher's guided prediction, shape (B, H, P)."""
        teacher, weight = self._teacher[0].to(inputs.x.device), self.model.config.distilled_guidance
        level, known = placed(inputs.level, inputs.x.device), torch.ones_like(inputs.return_to_go)
        conditional, unconditional = (
            teacher.denoiser.encode(teacher.condition(inputs.return_to_go, keep))
            for keep in (known, 0 * known)
        )
        modulation = teacher.denoiser.embed_level(level / teacher.config.num_levels)

        def denoise(x: Tensor, condition: Tensor) -> Tensor:
            passes = len(x) // len(modulation)  # both at once where both are needed
            both = repeat(modulation, "b ... -> (passes b) ...", passes=passes)
            return teacher.denoiser.denoise(x, both, condition)

        told = inputs.weight[:, None, None] if isinstance(weight, tuple) else weight or 0.0
        return classifier_free(denoise, inputs.x, conditional, unconditional, told)

    def _weights(self, num: int, generator: torch.Generator) -> Tensor:
        """Guidance weights of a batch, shape (B,): the one that there is, or any of the range."""
        weight = self.model.config.distilled_guidance
        if not isinstance(weight, tuple):
            return torch.full((num,), weight or 0.0)
        return weight[0] + (weight[1] - weight[0]) * torch.rand(num, generator=generator)


def predicted(model: PlannerModel, inputs: GuidanceDraw, jump: Tensor) -> Tensor:
    """What a student predicts in its one pass, shape (B, H, P), for jumps of shape (B,)."""
    # Plans that head for a goal, or are guided by a value, are asked for no return.
    asked = model.config.distilled_guidance is not None
    keep = torch.full_like(inputs.return_to_go, float(asked))
    condition = model.condition(inputs.return_to_go, keep, inputs.weight)
    modulation = model.embed_level(*(placed(one, inputs.x.device) for one in (inputs.level, jump)))
    return model.denoiser.denoise(inputs.x, modulation, model.denoiser.encode(condition))
