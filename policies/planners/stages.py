"""The stages of a decision: draft, condition, denoise, choose. No stage branches on data."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace
from typing import cast

import torch
from torch import Tensor, nn

from ...decoding.autoregression import correct, rollout
from ...decoding.guidance import classifier_free, value_guidance
from ...decoding.samplers import reverse_step
from ..programs.shared import shared
from .config import PlannerSampling
from .model import PlannerModel


class Draft(nn.Module):
    """Where the reverse process starts: a drafted plan, or noise.

    Args:
        model: Trained planner.
        sampling: How it plans.
    """

    READS = ("draft", "num_execute", "sweeps", "candidates", "temperature")

    def __init__(self, model: PlannerModel, sampling: PlannerSampling) -> None:
        super().__init__()
        self.model, self.sampling = model, sampling

    def forward(
        self,
        states: Tensor,
        returns: Tensor,
        goal: Tensor | None = None,
        previous: Tensor | None = None,
        noise: Tensor | None = None,
        signal: Tensor | None = None,
        sigma: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draft for R rows, once for all candidates, as the drafter draws nothing.

        Args:
            states: Newest frames in physical units, shape (R, context, O).
            returns: Return asked for at each of them, share of the data's largest, (R, context).
            goal: Goal features in physical units, shape (R, G).
            previous: Last plan of each row, for a warm decision; what `Choose` returned.
            noise: Standard normal, shape (R, candidates, H, D); without it the draft stays clean.
            signal: What is kept of the draft where there is noise, shape (H, 1).
            sigma: How much noise there is, shape (H, 1).

        Returns:
            Encoded plans (R, candidates, H, D) and the return from each state on (R, H).
        """
        draft, return_to_go, actions = self.tokens(states, returns, previous, goal)
        if goal is not None:
            reached = self.model.at_goal(goal).unsqueeze(1)  # (r, 1, o)
            draft = torch.cat([draft[:, :-1], reached], dim=1)
        x = self.model.encode_plan(draft, actions).unsqueeze(1)  # (r, 1, h, d)
        if noise is None or signal is None or sigma is None:
            return x.expand(-1, self.sampling.candidates, -1, -1), return_to_go
        return signal * x + self.sampling.temperature * sigma * noise, return_to_go

    def tokens(
        self,
        states: Tensor,
        returns: Tensor,
        previous: Tensor | None = None,
        goal: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Drafted states (R, H, O), returns (R, H), and the actions of the last plan.

        The actions, of shape (R, H, A), are empty unless the plan is joint.
        """
        model, horizon, drafter = self.model, self.model.config.horizon, self.model.drafter
        num_known, size = states.shape[1], model.state_dim
        num_actions = model.action_dim if model.config.joint else 0
        actions = states.new_zeros(1).expand(states.shape[0], horizon, num_actions)
        if previous is not None:
            old = shifted(previous, self.sampling.num_execute, model.config.stride)
            states = torch.cat([states, old[:, 1:, :size]], dim=1)  # (r, context + h - 1, o)
            returns = torch.cat([returns, old[:, 1:, size]], dim=1)
            actions = old[..., size + 1 :]
        if self.sampling.draft == "rollout":
            assert drafter is not None
            tokens = model.encode_tokens(states, model.targets(returns, goal))  # (r, l, o + q)
            if previous is not None:
                tokens = correct(drafter, tokens, num_known, self.sampling.sweeps)
            else:
                new = rollout(drafter.prefill, drafter.decode, tokens, horizon - 1)
                tokens = torch.cat([tokens, new], dim=1)
            new_states, targets = model.decode_tokens(tokens[:, num_known:])
            states = torch.cat([states[:, :num_known], new_states], dim=1)
            new_returns = targets[..., 0] if goal is None else torch.zeros_like(targets[..., 0])
            returns = torch.cat([returns[:, :num_known], new_returns], dim=1)
        elif previous is None:
            states = torch.cat([states, states[:, -1:].expand(-1, horizon - 1, -1)], dim=1)
            returns = torch.cat([returns, returns[:, -1:].expand(-1, horizon - 1)], dim=1)
        return states[:, num_known - 1 :], returns[:, num_known - 1 :], actions


def num_found(model: PlannerModel, sampling: PlannerSampling) -> int:
    """Actions that are found per plan: as many as are executed, each held for a stride."""
    return math.ceil(sampling.num_execute / model.config.stride)


def shifted(plan: Tensor, num_steps: int, stride: int) -> Tensor:
    """What is left of a plan (R, H, F) after some control steps, its end repeated.

    Between two states, `stride` control steps apart, it is interpolated.
    """
    whole, part = divmod(num_steps, stride)
    length = plan.shape[1]
    longer = torch.cat([plan, plan[:, -1:].expand(-1, whole + 1, -1)], dim=1)
    rest = longer[:, whole : whole + length]  # (r, h, f)
    return rest if part == 0 else rest.lerp(longer[:, whole + 1 :], part / stride)


class Condition(nn.Module):
    """What the denoiser is conditioned on, once for all of a decision's denoising steps.

    Args:
        model: Trained planner.
        sampling: How it plans.
    """

    READS = ("guidance",)

    def __init__(self, model: PlannerModel, sampling: PlannerSampling) -> None:
        super().__init__()
        self.model, self.sampling = model, sampling

    def forward(self, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Modulations (R, ...) of the return asked for last, (R, context), and of no condition."""
        model, return_to_go = self.model, returns[:, -1]
        known, weight = torch.ones_like(return_to_go), self.sampling.guidance
        conditional = model.denoiser.encode(model.condition(return_to_go, known, weight))
        return conditional, model.denoiser.encode(
            model.condition(return_to_go, torch.zeros_like(return_to_go))
        )


def guidance_weight(model: PlannerModel, sampling: PlannerSampling) -> float:
    """Weight of classifier-free guidance, 0 or 1 where one pass is enough.

    What was distilled into a network needs no second pass, and a goal, which is pinned, no
    condition.
    """
    distilled = model.config.distilled_guidance
    if model.goal_dim:
        return 0.0
    return sampling.guidance if distilled is None else 1.0


def modulations(model: PlannerModel, sampling: PlannerSampling) -> tuple[str, ...]:
    """Which of the outputs of `Condition` the denoising steps read."""
    single = {0.0: ("unconditional",), 1.0: ("conditional",)}
    return single.get(guidance_weight(model, sampling), ("conditional", "unconditional"))


class Denoise(nn.Module):
    """One guided denoising step: a pass of the loop of Diffuser's algorithm 1.

    Its value moves the plan before the network sees it; a condition guides the network itself.

    Args:
        model: Trained planner.
        sampling: How it plans.
    """

    READS = ("guidance", "candidates", "temperature", "value_steps")

    def __init__(self, model: PlannerModel, sampling: PlannerSampling) -> None:
        super().__init__()
        self.model, self.sampling = model, sampling

    def forward(
        self,
        x: Tensor,
        level_modulation: Tensor,
        coefficients: Tensor,
        conditional: Tensor | None = None,
        unconditional: Tensor | None = None,
        noise: Tensor | None = None,
        value_term: Tensor | None = None,
        guidance_scale: Tensor | None = None,
    ) -> Tensor:
        """Carry encoded plans (R, candidates, H, D) to the next level; pinned positions stay.

        Args:
            x: Encoded plans.
            level_modulation: Output of `Denoiser.embed_level`, shape (1, ...).
            coefficients: `StepCoefficients.tensor`, shape (6, H, 1).
            conditional: Modulation of the return asked for, shape (R, ...).
            unconditional: Modulation of no condition, shape (R, ...). Of the two, those that
                `modulations` names.
            noise: Standard normal, shape (R, candidates, H, D).
            value_term: Output of `PlanValue.embed_level`, shape (1, W).
            guidance_scale: Step size of value guidance, shape (1, H, 1).
        """
        model, sampling, num = self.model, self.sampling, self.sampling.candidates
        result = x.flatten(0, 1)  # (r * candidates, h, d)
        given = [one for one in (conditional, unconditional) if one is not None]
        if num > 1:
            given = [one.repeat_interleave(num, dim=0) for one in given]
        if value_term is not None and guidance_scale is not None:
            assert model.value is not None
            gradient = partial(model.value.gradient, level_term=value_term)
            result = value_guidance(result, gradient, guidance_scale, sampling.value_steps)
        denoise = partial(self._denoise, level_modulation)
        weight = guidance_weight(model, sampling)
        output = classifier_free(denoise, result, given[0], given[-1], weight)
        result = reverse_step(result, output, coefficients, clip=model.config.clip)
        result = result.unflatten(0, (x.shape[0], num))  # (r, candidates, h, d)
        return result if noise is None else result + sampling.temperature * coefficients[5] * noise

    def _denoise(self, level_modulation: Tensor, x: Tensor, condition: Tensor) -> Tensor:
        return self.model.denoiser.denoise(x, level_modulation, condition)


class Choose(nn.Module):
    """Take the best candidate, and find the actions that lead along its beginning.

    Args:
        model: Trained planner.
        sampling: How it plans.
    """

    READS = ("num_execute", "candidates", "select")

    def __init__(self, model: PlannerModel, sampling: PlannerSampling) -> None:
        super().__init__()
        self.model, self.sampling = model, sampling

    def forward(self, x: Tensor, states: Tensor, return_to_go: Tensor) -> tuple[Tensor, Tensor]:
        """Turn encoded plans (R, candidates, H, D) into one plan per row.

        Args:
            x: Encoded plans.
            states: Newest frames in physical units, shape (R, context, O).
            return_to_go: Return from each state on, shape (R, H).

        Returns:
            Plans, shape (R, H, O + 1): states in physical units and the return from each on; in
            a joint plan with the action after each, (R, H, O + 1 + A), the last being 0. And the
            actions that are executed, physical, shape (R, num_found, A).
        """
        model, num, rows = self.model, self.sampling.candidates, x.shape[0]
        executed = num_found(model, self.sampling)
        num_actions = model.config.horizon - 1 if model.config.joint else executed
        x = x.flatten(0, 1)  # (r * candidates, h, d)
        current = states[:, -1].repeat_interleave(num, dim=0) if num > 1 else states[:, -1]
        planned = model.coordinates.inverse(x[..., : model.state_dim], current)  # (.., h, o)
        actions = model.actions(x, planned, num_actions)  # (.., num_actions, a)
        if num > 1:
            best = torch.arange(rows, device=x.device) * num + self._best(x, planned, actions, rows)
            planned, actions = planned[best], actions[best]  # (r, h, o), (r, num_actions, a)
        plan = [planned, return_to_go.unsqueeze(-1)]
        if model.config.joint:
            plan.append(nn.functional.pad(actions, (0, 0, 0, 1)))
        return torch.cat(plan, dim=-1), actions[:, :executed]

    def _best(self, x: Tensor, planned: Tensor, actions: Tensor, rows: int) -> Tensor:
        """Index of each row's best candidate, shape (R,)."""
        model = self.model
        if self.sampling.select == "first":
            return torch.zeros(rows, dtype=torch.int64, device=x.device)
        if self.sampling.select == "critic":
            assert model.critic is not None
            state = model.coordinates.normalizer(planned[:, 0])
            score = model.critic(state, model.action_normalizer(actions[:, 0]))[:, 0]  # Q(s, a)
        else:
            assert model.value is not None
            score = model.value(x, model.value.embed_level(x.new_zeros(1)))
        return score.unflatten(0, (rows, self.sampling.candidates)).argmax(dim=1)


Stage = type[Draft] | type[Condition] | type[Denoise] | type[Choose]


def stage(kind: Stage, model: PlannerModel, sampling: PlannerSampling) -> nn.Module:
    """The model's one module of a kind that makes these choices.

    Exporting a rollout takes seconds; programs that share it share what was exported.
    """
    # A stage is given the choices in its READS and no others, so that it cannot read one that is
    # missing there: programs with different ones would share the module.
    read = {name: getattr(sampling, name) for name in kind.READS}
    choices = cast("PlannerSampling", SimpleNamespace(**read))
    return shared(kind, model, lambda: kind(model, choices), *read.values())
