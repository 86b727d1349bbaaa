"""The stages of a decision: draft, condition, denoise, choose. No stage branches on data."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from ...decoding.autoregression import correct, rollout
from ...decoding.guidance import classifier_free, climb
from ..reverse import reverse_step
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
        draft, asked, actions = self.tokens(states, returns, previous)
        if goal is not None:
            reached = torch.cat([goal, draft[:, -1, goal.shape[1] :]], dim=-1)
            draft = torch.cat([draft[:, :-1], reached.unsqueeze(1)], dim=1)
        x = self.model.encode_plan(draft, actions).unsqueeze(1)
        if noise is None or signal is None or sigma is None:
            return x.expand(-1, self.sampling.candidates, -1, -1), asked
        return signal * x + self.sampling.temperature * sigma * noise, asked

    def tokens(
        self, states: Tensor, returns: Tensor, previous: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Drafted states (R, H, O), returns (R, H), and the actions of the last plan.

        The actions, of shape (R, H, A), are empty unless the plan is joint.
        """
        model, horizon, drafter = self.model, self.model.config.horizon, self.model.drafter
        num_known, size = states.shape[1], model.state_dim
        num_actions = model.action_dim if model.config.joint else 0
        actions = states.new_zeros(1).expand(states.shape[0], horizon, num_actions)
        if previous is not None:
            # Shifted to the current step; the last frame is repeated.
            shifted = torch.arange(horizon, device=previous.device) + self.sampling.num_execute
            old = previous[:, shifted.clamp(max=horizon - 1)]
            old, actions = old[:, 1:, : size + 1], old[..., size + 1 :]
            states = torch.cat([states, old[..., :size]], dim=1)
            returns = torch.cat([returns, old[..., size]], dim=1)
        if self.sampling.draft == "rollout":
            assert drafter is not None
            tokens = model.encode_tokens(states, returns)
            if previous is not None:
                tokens = correct(drafter, tokens, num_known, self.sampling.sweeps)
            else:
                new = rollout(drafter.prefill, drafter.decode, tokens, horizon - 1)
                tokens = torch.cat([tokens, new], dim=1)
            new_states, new_returns = model.decode_tokens(tokens[:, num_known:])
            states = torch.cat([states[:, :num_known], new_states], dim=1)
            returns = torch.cat([returns[:, :num_known], new_returns], dim=1)
        elif previous is None:
            states = torch.cat([states, states[:, -1:].expand(-1, horizon - 1, -1)], dim=1)
            returns = torch.cat([returns, returns[:, -1:].expand(-1, horizon - 1)], dim=1)
        return states[:, num_known - 1 :], returns[:, num_known - 1 :], actions


class Condition(nn.Module):
    """What the denoiser is conditioned on, once for all of a decision's denoising steps.

    Args:
        model: Trained planner.
        sampling: How it plans.
    """

    READS = ()

    def __init__(self, model: PlannerModel, sampling: PlannerSampling) -> None:
        super().__init__()
        self.model = model

    def forward(self, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Modulations (R, ...) of the return asked for last, (R, context), and of no condition.

        A goal is pinned and needs no return, so that both are the same.
        """
        model, asked = self.model, returns[:, -1]
        known = torch.zeros_like(asked) if model.goal_dim else torch.ones_like(asked)
        conditional = model.denoiser.encode(model.condition(asked, known))
        return conditional, model.denoiser.encode(model.condition(asked, torch.zeros_like(asked)))


class Denoise(nn.Module):
    """One guided denoising step.

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
        conditional: Tensor,
        unconditional: Tensor,
        level_modulation: Tensor,
        coefficients: Tensor,
        noise: Tensor | None = None,
        value_term: Tensor | None = None,
        climb_scale: Tensor | None = None,
    ) -> Tensor:
        """Carry encoded plans (R, candidates, H, D) to the next level; pinned positions stay.

        Args:
            x: Encoded plans.
            conditional: Modulation of the return asked for, shape (R, ...).
            unconditional: Modulation of no condition, shape (R, ...).
            level_modulation: Output of `Denoiser.embed_level`, shape (1, ...).
            coefficients: p_x, p_f, c_0, c_x, c_f and c_z, shape (6, 1, H, 1).
            noise: Standard normal, shape (R, candidates, H, D).
            value_term: Output of `PlanValue.embed_level`, shape (1, W).
            climb_scale: Step size of value guidance, shape (1, H, 1).
        """
        model, sampling, num = self.model, self.sampling, self.sampling.candidates
        result = x.flatten(0, 1)
        if num > 1:
            conditional = conditional.repeat_interleave(num, dim=0)
            unconditional = unconditional.repeat_interleave(num, dim=0)
        if value_term is not None and climb_scale is not None:
            assert model.value is not None
            gradient = partial(model.value.gradient, level_term=value_term)
            result = climb(result, gradient, climb_scale, sampling.value_steps)
        denoise = partial(self._denoise, level_modulation)
        # What was distilled into the network takes one pass, as weight 1 does.
        weight = sampling.guidance if model.config.distilled_guidance is None else 1.0
        output = classifier_free(denoise, result, conditional, unconditional, weight)
        result = reverse_step(result, output, coefficients[:5], model.config.clip)
        result = result.unflatten(0, (x.shape[0], num))
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

    def forward(self, x: Tensor, states: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Turn encoded plans (R, candidates, H, D) into one plan per row.

        Args:
            x: Encoded plans.
            states: Newest frames in physical units, shape (R, context, O).
            asked: Return from each state on, shape (R, H).

        Returns:
            Plans, shape (R, H, O + 1): states in physical units and the return from each on; in
            a joint plan with the action after each, (R, H, O + 1 + A), the last being 0. And the
            actions that are executed, physical, shape (R, num_execute, A).
        """
        model, num, rows = self.model, self.sampling.candidates, x.shape[0]
        num_actions = model.config.horizon - 1 if model.config.joint else self.sampling.num_execute
        x = x.flatten(0, 1)
        current = states[:, -1].repeat_interleave(num, dim=0) if num > 1 else states[:, -1]
        planned = model.coordinates.inverse(x[..., : model.state_dim], current)
        actions = model.actions(x, planned, num_actions)
        if num > 1:
            best = torch.arange(rows, device=x.device) * num + self._best(x, planned, actions, rows)
            planned, actions = planned[best], actions[best]
        plan = [planned, asked.unsqueeze(-1)]
        if model.config.joint:
            plan.append(nn.functional.pad(actions, (0, 0, 0, 1)))
        return torch.cat(plan, dim=-1), actions[:, : self.sampling.num_execute]

    def _best(self, x: Tensor, planned: Tensor, actions: Tensor, rows: int) -> Tensor:
        """Index of each row's best candidate, shape (R,)."""
        model = self.model
        if self.sampling.select == "first":
            return torch.zeros(rows, dtype=torch.int64, device=x.device)
        if self.sampling.select == "critic":
            assert model.critic is not None
            state = model.coordinates.normalizer(planned[:, 0])
            score = model.critic(state, model.action_normalizer(actions[:, 0]))[:, 0]
        else:
            assert model.value is not None
            score = model.value(x, model.value.embed_level(x.new_zeros(1)))
        return score.unflatten(0, (rows, self.sampling.candidates)).argmax(dim=1)


Stage = type[Draft] | type[Condition] | type[Denoise] | type[Choose]


def stage(kind: Stage, model: PlannerModel, sampling: PlannerSampling) -> nn.Module:
    """The model's one module of a kind that makes these choices.

    Exporting a rollout takes seconds; programs that share it share what was exported.
    """
    read = replace(PlannerSampling(), **{name: getattr(sampling, name) for name in kind.READS})
    if (kind, read) not in model.parts:
        model.parts[kind, read] = kind(model, read).eval()
    return model.parts[kind, read]
