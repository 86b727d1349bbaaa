"""The three stages of a decision: draft, denoise, choose. No stage branches on data."""

from __future__ import annotations

from functools import partial

import numpy as np
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
        start: Level vector that the draft is noised to, shape (H,); None leaves it clean.
        from_noise: Whether nothing but the pinned positions is kept of the draft.
    """

    signal: Tensor
    sigma: Tensor

    def __init__(
        self,
        model: PlannerModel,
        sampling: PlannerSampling,
        start: np.ndarray | None,
        from_noise: bool,
    ) -> None:
        super().__init__()
        self.model, self.sampling = model, sampling
        level = np.zeros(model.config.horizon, np.int64) if start is None else start
        alpha_bar = (level == 0).astype(float) if from_noise else model.schedule.alpha_bar[level]
        for name, value in (("signal", np.sqrt(alpha_bar)), ("sigma", np.sqrt(1 - alpha_bar))):
            self.register_buffer(name, torch.from_numpy(value).float()[:, None], persistent=False)

    def forward(
        self,
        states: Tensor,
        returns: Tensor,
        goal: Tensor | None = None,
        previous: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draft for R rows, once for all candidates, as the drafter draws nothing.

        Args:
            states: Newest frames in physical units, shape (R, context, O).
            returns: Return asked for at each of them, share of the data's largest, (R, context).
            goal: Goal features in physical units, shape (R, G).
            previous: Last plan of each row, for a warm decision, shape (R, H, O + 1 + A).
            noise: Standard normal, shape (R, candidates, H, D).

        Returns:
            Encoded plans (R, candidates, H, D) and the return from each state on (R, H).
        """
        draft, asked, actions = self.tokens(states, returns, previous, goal)
        if goal is not None:
            reached = self.model.at_goal(goal).unsqueeze(1)
            draft = torch.cat([draft[:, :-1], reached], dim=1)
        x = self.model.encode_plan(draft, actions).unsqueeze(1)
        if noise is None:
            return x.expand(-1, self.sampling.candidates, -1, -1), asked
        return self.signal * x + self.sigma * self.sampling.temperature * noise, asked

    def tokens(
        self,
        states: Tensor,
        returns: Tensor,
        previous: Tensor | None = None,
        goal: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Drafted states (R, H, O), returns (R, H), and the actions of the last plan (R, H, A)."""
        model, horizon, drafter = self.model, self.model.config.horizon, self.model.drafter
        num_known, size = states.shape[1], model.state_dim
        actions = states.new_zeros(1).expand(states.shape[0], horizon, model.action_dim)
        if previous is not None:
            old = shifted(previous, self.sampling.num_execute, model.config.stride)
            states = torch.cat([states, old[:, 1:, :size]], dim=1)
            returns = torch.cat([returns, old[:, 1:, size]], dim=1)
            actions = old[..., size + 1 :]
        if self.sampling.draft == "rollout":
            assert drafter is not None
            tokens = model.encode_tokens(states, model.asked(returns, goal))
            if previous is not None:
                tokens = correct(drafter, tokens, num_known, self.sampling.sweeps)
            else:
                new = rollout(drafter.prefill, drafter.decode, tokens, horizon - 1)
                tokens = torch.cat([tokens, new], dim=1)
            new_states, asked = model.decode_tokens(tokens[:, num_known:])
            states = torch.cat([states[:, :num_known], new_states], dim=1)
            new_returns = asked[..., 0] if goal is None else torch.zeros_like(asked[..., 0])
            returns = torch.cat([returns[:, :num_known], new_returns], dim=1)
        elif previous is None:
            states = torch.cat([states, states[:, -1:].expand(-1, horizon - 1, -1)], dim=1)
            returns = torch.cat([returns, returns[:, -1:].expand(-1, horizon - 1)], dim=1)
        return states[:, num_known - 1 :], returns[:, num_known - 1 :], actions


def shifted(plan: Tensor, num_steps: int, stride: int) -> Tensor:
    """What is left of a plan (R, H, F) after some control steps, its end repeated.

    Between two states, `stride` control steps apart, it is interpolated.
    """
    whole, part = divmod(num_steps, stride)
    length = plan.shape[1]
    longer = torch.cat([plan, plan[:, -1:].expand(-1, whole + 1, -1)], dim=1)
    rest = longer[:, whole : whole + length]
    return rest if part == 0 else rest.lerp(longer[:, whole + 1 :], part / stride)


class Denoise(nn.Module):
    """One guided denoising step.

    Args:
        model: Trained planner.
        sampling: How it plans.
    """

    def __init__(self, model: PlannerModel, sampling: PlannerSampling) -> None:
        super().__init__()
        self.model, self.sampling = model, sampling

    def forward(
        self,
        x: Tensor,
        returns: Tensor,
        level_modulation: Tensor,
        coefficients: Tensor,
        noise: Tensor | None = None,
        value_term: Tensor | None = None,
        climb_scale: Tensor | None = None,
    ) -> Tensor:
        """Carry encoded plans (R, candidates, H, D) to the next level; pinned positions stay.

        Args:
            x: Encoded plans.
            returns: Return asked for, shape (R, context).
            level_modulation: Output of `Denoiser.embed_level`, shape (1, ...).
            coefficients: p_x, p_f, c_0, c_x, c_f and c_z, shape (6, 1, H, 1).
            noise: Standard normal, shape (R, candidates, H, D).
            value_term: Output of `PlanValue.embed_level`, shape (1, W).
            climb_scale: Step size of value guidance, shape (1, H, 1).
        """
        model, sampling, num = self.model, self.sampling, self.sampling.candidates
        asked = returns[:, -1:].expand(-1, num).flatten()
        result = x.flatten(0, 1)
        if value_term is not None and climb_scale is not None:
            assert model.value is not None
            gradient = partial(model.value.gradient, level_term=value_term)
            result = climb(result, gradient, climb_scale, sampling.value_steps)
        known = torch.zeros_like(asked) if model.goal_dim else torch.ones_like(asked)
        conditional = model.denoiser.encode(model.condition(asked, known))
        nothing = model.denoiser.encode(model.condition(asked, torch.zeros_like(asked)))
        denoise = partial(self._denoise, level_modulation)
        output = classifier_free(denoise, result, conditional, nothing, sampling.guidance)
        result = reverse_step(result, output, coefficients[:5], model.config.clip)
        result = result.unflatten(0, (x.shape[0], num))
        return result if noise is None else result + sampling.temperature * coefficients[5] * noise

    def _denoise(self, level_modulation: Tensor, x: Tensor, condition: Tensor) -> Tensor:
        return self.model.denoiser.denoise(x, level_modulation, condition)


class Choose(nn.Module):
    """Find the actions along each candidate and take the best one.

    Args:
        model: Trained planner.
        sampling: How it plans.
    """

    clean: Tensor

    def __init__(self, model: PlannerModel, sampling: PlannerSampling) -> None:
        super().__init__()
        self.model, self.sampling = model, sampling
        with torch.no_grad():
            clean = (
                torch.zeros(0) if model.value is None else model.value.embed_level(torch.zeros(1))
            )
        self.register_buffer("clean", clean, persistent=False)

    def forward(self, x: Tensor, states: Tensor, asked: Tensor) -> Tensor:
        """Turn encoded plans (R, candidates, H, D) into one plan per row.

        Args:
            x: Encoded plans.
            states: Newest frames in physical units, shape (R, context, O).
            asked: Return from each state on, shape (R, H).

        Returns:
            Shape (R, H, O + 1 + A): states in physical units, the return from each on, and the
            action after each; the last has none and is 0.
        """
        model, num, rows = self.model, self.sampling.candidates, x.shape[0]
        x = x.flatten(0, 1)
        current = states[:, -1].repeat_interleave(num, dim=0) if num > 1 else states[:, -1]
        planned = model.coordinates.inverse(x[..., : model.state_dim], current)
        actions = model.actions(x, planned)
        if num > 1:
            best = torch.arange(rows, device=x.device) * num + self._best(x, planned, actions, rows)
            planned, actions = planned[best], actions[best]
        actions = nn.functional.pad(actions, (0, 0, 0, 1))
        return torch.cat([planned, asked.unsqueeze(-1), actions], dim=-1)

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
            score = model.value(x, self.clean)
        return score.unflatten(0, (rows, self.sampling.candidates)).argmax(dim=1)
