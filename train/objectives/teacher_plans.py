"""Plans that a planner makes for its student to learn from, with each step of their way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...policies.planners.config import PlannerSampling
from ...policies.planners.decision import Decision, reverse_levels
from ...policies.planners.model import PlannerModel
from ..data.plan_windows import PlanWindows
from .planning import hindsight_goals

NUM_WEIGHTS = 5  # between the smallest and the largest that a student is told


class TeacherPlans(NamedTuple):
    """Plans on their way from noise, or from a draft, to clean.

    Attributes:
        x: Encoded plans after each call, shape (T + 1, M, H, P).
        return_to_go: Returns that they were asked for, shape (M,).
        weight: Guidance weights, shape (M,).
    """

    x: Tensor
    return_to_go: Tensor
    weight: Tensor


class PlanningTeacher:
    """Makes plans as a planner does and remembers each step.

    Args:
        model: Trained planner.
        windows: Demonstrations, for the states that plans begin at.
        sampling: How the student will plan, but for its calls; the guidance of the teacher's value
            included.
        weights: Guidance weights, each for as many plans.
        num_steps: Calls per plan T.
        state_noise: Noise on the states that plans begin at, in units of their usual change from
            one state of a plan to the next.

    Attributes:
        levels: Level vectors of each plan's way, shape (T + 1, H).
        prediction: What its network predicts.
    """

    def __init__(
        self,
        model: PlannerModel,
        windows: PlanWindows,
        sampling: PlannerSampling,
        weights: Sequence[float],
        num_steps: int,
        state_noise: float = 0.0,
    ) -> None:
        self._state_noise = state_noise
        self._model, self._windows, self._sampling = model, windows, sampling
        chosen = replace(
            sampling, update="ddim", calls_per_step=num_steps, candidates=1, select="first", reuse=0
        )
        self._decisions = {
            weight: Decision(model, replace(chosen, guidance=weight)) for weight in weights
        }
        self.prediction = model.config.prediction
        self.levels = torch.from_numpy(np.stack(reverse_levels(model, chosen, warm=False)))

    def to(self, device: torch.device) -> PlanningTeacher:
        """Plan on another device from now on; the same, not a copy."""
        self._model.to(device)
        return self

    @torch.no_grad()
    def plan(self, num: int, generator: torch.Generator) -> TeacherPlans:
        """Make plans, `num` in all, from any states of the demonstrations."""
        per_weight = math.ceil(num / len(self._decisions))
        parts = [
            self._plan(weight, decision, per_weight, generator)
            for weight, decision in self._decisions.items()
        ]
        return TeacherPlans(
            torch.cat([part.x for part in parts], dim=1),
            torch.cat([part.return_to_go for part in parts]),
            torch.cat([part.weight for part in parts]),
        )

    def _plan(
        self, weight: float, decision: Decision, num: int, generator: torch.Generator
    ) -> TeacherPlans:
        model, past = self._model, self._model.config.context - 1
        device = model.return_scale.device
        current = torch.randint(len(self._windows), (num,), generator=generator)
        batch = self._windows.gather(current).to(device)
        asked = self._asked(batch.returns[:, past], generator)  # (m,)
        states = batch.states[:, : past + 1]
        drawn = torch.randn(states.shape, generator=generator).to(device)
        memory = {
            "states": states + self._state_noise * drawn / model.coordinates.slot_scale[1],
            "returns": batch.returns[:, : past + 1] + (asked - batch.returns[:, past])[:, None],
        }
        if model.goal_dim:
            reachable = batch.valid[:, past:].sum(dim=1)
            arrival = (torch.rand(num, generator=generator).to(device) * reachable).long()
            memory["goal"] = hindsight_goals(model, batch, arrival)[1]
        for name in decision.noise:
            shape = decision.program.inputs[name].shape
            memory[name] = torch.randn((num, *shape), generator=generator).to(device)
        program = decision.program.to(device)
        for call in program.calls[:-1]:  # without the last one, which finds the actions
            call.run(memory)
        ways = [memory[f"x_{index}"].squeeze(1) for index in range(len(self.levels))]
        return TeacherPlans(torch.stack(ways), asked, torch.full_like(asked, weight))

    def _asked(self, returns: Tensor, generator: torch.Generator) -> Tensor:
        """Returns to ask for, shape (M,): what the policy will ask for, or what others brought."""
        target, floor = self._sampling.target_return, self._sampling.return_floor
        num, device = len(returns), returns.device
        own = target * (floor + (1 - floor) * torch.rand(num, generator=generator)).to(device)
        other = returns[torch.randperm(num, generator=generator).to(device)]
        is_own = torch.rand(num, generator=generator) < 0.5
        return torch.where(is_own.to(device), own, other)


def start_level(model: PlannerModel, sampling: PlannerSampling) -> int:
    """Level at which a plan starts.

    Raises:
        ValueError: If there is nothing to denoise.
    """
    if sampling.draft == "noise":
        return model.config.num_levels
    level = sampling.draft_level
    if not 1 <= level <= model.config.num_levels:
        raise ValueError(
            "a planner is distilled where it denoises its drafts; set policy.sampling.draft_level "
            f"between 1 and {model.config.num_levels}, got {level}"
        )
    return level


def taught_weights(student: PlannerModel, sampling: PlannerSampling) -> list[float]:
    """Guidance weights that the teacher plans with."""
    learned = student.config.guidance_range
    if learned is None:
        return [sampling.guidance]
    return sorted({*np.linspace(*learned, NUM_WEIGHTS).tolist(), sampling.guidance})
