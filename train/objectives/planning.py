"""Losses of planners: all parts of a planner at once, each by its own."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
from einops import repeat
from torch import Tensor, nn

from ...decoding.placed import placed
from ...decoding.samplers import prediction_target
from ...policies.planners.model import PlanBatch, PlannerModel
from ..config.policies import PlannerLosses
from .objective import Drawn

logger = logging.getLogger(__name__)

EXACT = PlannerLosses(drafter_noise=0.0)
LARGE_NOISE = 0.1  # of the states' standard deviation


def warn_of_large_noise(drafter_noise: float, gain: Tensor) -> None:
    """Log a warning if noise in units of a step's change, `gain` per state feature, is large."""
    share = drafter_noise * float(gain.median())
    if share > LARGE_NOISE:
        logger.warning(
            "one step changes these states by much: drafter_noise=%g is %.2f of their spread, and "
            "drafts will hardly depend on the state; try %.2g",
            drafter_noise,
            share,
            drafter_noise * LARGE_NOISE / (2 * share),
        )


def hindsight_goals(
    model: PlannerModel, batch: PlanBatch, arrival: Tensor
) -> tuple[PlanBatch, Tensor]:
    """Make a state of each window its goal, at which it stays from then on.

    Every state that was reached shows how to reach it (hindsight, Andrychowicz et al. 2017), and
    staying is what a plan does that has time left.

    Args:
        model: Says which features are a goal, and what rest is.
        batch: Windows.
        arrival: Position of the goal in each window's plan, shape (B,).

    Returns:
        Windows that are valid everywhere, and their goals (B, G).
    """
    position = torch.arange(1 - model.config.context, model.config.horizon, device=arrival.device)
    row = torch.arange(len(arrival), device=arrival.device)
    goal = batch.states[row, arrival + model.config.context - 1, : model.goal_dim]  # (b, g)
    stays = position > arrival[:, None]  # (b, t)
    stays[:, -1] = True
    states = torch.where(stays.unsqueeze(-1), model.at_goal(goal).unsqueeze(1), batch.states)
    rests = (position >= arrival[:, None]).unsqueeze(-1)  # (b, t, 1)
    idle = model.action_normalizer.inverse(torch.zeros_like(batch.actions[:1, :1]))
    actions = torch.where(rests, idle, batch.actions)
    return PlanBatch(states, actions, batch.returns, torch.ones_like(batch.valid)), goal


@dataclass(frozen=True)
class PlannerDraw(Drawn):
    """Windows, and what is drawn for the losses on them; T = context + H - 1.

    Attributes:
        states: Physical, shape (B, T, O).
        actions: Physical, shape (B, T, A).
        returns: Share of the data's largest, shape (B, T).
        valid: 0 behind the end of an episode, shape (B, T).
        moves: 0 where the first action leads nowhere, shape (B,).
        level: Noise level of each state, shape (B, H).
        noise: Gaussian noise, shape (B, H, P).
        keep: 0 where the condition is hidden, shape (B,).
        goal: Goals, shape (B, G), for plans to goals.
        jitter: Noise on the states that the drafter reads, shape (B, T, O), if there is one.
    """

    states: Tensor
    actions: Tensor
    returns: Tensor
    valid: Tensor
    moves: Tensor
    level: Tensor
    noise: Tensor
    keep: Tensor
    goal: Tensor | None = None
    jitter: Tensor | None = None


class PlannerObjective(nn.Module):
    """Sum of the losses of a planner's parts.

    Those of the Trajectory Diffuser (arXiv 2407.16142), and the value of Diffuser. With inverse
    dynamics g, critic Q and returns R: L_inv = |g(s_t, s_t+1) - a_t|^2 and L_Q = |Q(s, a) - R|^2;
    L_diff and L_AR below.

    No parameter belongs to two parts and AdamW scales every parameter's step by itself, so this
    is training each part with an optimiser of its own.

    Args:
        model: Planner to train.
        losses: How its parts are trained.
    """

    draws_on_device = True

    def __init__(self, model: PlannerModel, losses: PlannerLosses = EXACT) -> None:
        super().__init__()
        self.model, self.losses = model, losses
        if model.drafter is not None and not model.goal_dim:
            warn_of_large_noise(losses.drafter_noise, model.drafter.gain[: model.state_dim])

    def prepare(self, step: int) -> None:
        """Nothing to prepare."""

    def draw(self, batch: PlanBatch, generator: torch.Generator) -> PlannerDraw:
        """Draw noise level, noise, and whose condition is dropped, for each sample."""
        drawn = self.sample(batch, generator)
        return replace(drawn, level=placed(drawn.level, batch.states.device))

    def sample(self, batch: PlanBatch, generator: torch.Generator) -> PlannerDraw:
        """The same with the levels where they were drawn, which is where the generator is."""
        config, device, place = self.model.config, batch.states.device, generator.device
        num, past = len(batch.states), config.context - 1
        moves, goal, jitter = batch.valid[:, past + 1], None, None
        if self.model.goal_dim:
            reachable = batch.valid[:, past:].sum(dim=1)
            share = torch.rand(num, generator=generator, device=place)
            arrival = (placed(share, device) * reachable).long()
            batch, goal = hindsight_goals(self.model, batch, arrival)
            moves = arrival > 0
        level = torch.randint(1, config.num_levels + 1, (num,), generator=generator, device=place)
        levels = repeat(level, "b -> b h", h=config.horizon).clone()
        for position in self.model.pinned:
            levels[:, position] = 0
        shape = (num, config.horizon, self.model.plan_dim)
        kept = torch.rand(num, generator=generator, device=place)
        keep = kept >= self.losses.condition_dropout
        noise = placed(torch.randn(shape, generator=generator, device=place), device)
        if self.model.drafter is not None:
            drawn = torch.randn(batch.states.shape, generator=generator, device=place)
            jitter = self.losses.drafter_noise * placed(drawn, device)
        return PlannerDraw(
            states=batch.states,
            actions=batch.actions,
            returns=batch.returns,
            valid=batch.valid.float(),
            moves=moves.float(),
            level=levels,
            noise=noise,
            keep=placed(keep.float(), device),
            goal=goal,
            jitter=jitter,
        )

    def forward(self, inputs: PlannerDraw) -> Tensor:
        """Mean loss of the batch, shape (): the sum over the planner's parts."""
        model, past = self.model, self.model.config.context - 1
        states, actions = inputs.states[:, past], inputs.actions[:, past]  # (b, o), (b, a)
        returns = inputs.returns[:, past]  # (b,)
        clean = model.encode_plan(inputs.states[:, past:], inputs.actions[:, past:])  # (b, h, p)
        x = model.schedule.add_noise(clean, inputs.noise, inputs.level)  # (b, h, p)
        level = inputs.level / model.config.num_levels  # (b, h)
        loss = self._denoising_loss(x, clean, level, inputs)
        action = model.action_normalizer(actions)
        if model.inverse is not None:
            found = model.inverse(model.coordinates.step(states, inputs.states[:, past + 1]))
            loss = loss + (inputs.moves[:, None] * (found - action) ** 2).mean()
        if model.critic is not None:
            value = model.critic(model.coordinates.normalizer(states), action)[:, 0]  # (b,)
            loss = loss + ((value - returns) ** 2).mean()
        if model.value is not None:
            value = model.value(x, model.value.embed_level(level.amax(dim=1)))  # (b,)
            loss = loss + ((value - returns) ** 2).mean()
        return loss + self._draft_loss(inputs) if model.drafter is not None else loss

    def _denoising_loss(
        self, x: Tensor, clean: Tensor, level: Tensor, inputs: PlannerDraw
    ) -> Tensor:
        """Error of the denoiser on plans x (B, H, P), shape ().

        L_diff = |f(x_k, m R, k) - target|^2, without the condition where m = 0. A goal needs no
        return, so its condition is always dropped.
        """
        model, past = self.model, self.model.config.context - 1
        keep = torch.zeros_like(inputs.keep) if model.goal_dim else inputs.keep
        output = model.denoiser(x, level, model.condition(inputs.returns[:, past], keep))
        target = prediction_target(
            model.schedule, model.config.prediction, clean, inputs.noise, inputs.level
        )
        # Pinned positions are known, and what lies behind the end of an episode is not.
        counts = (inputs.valid[:, past:] * (inputs.level > 0)).unsqueeze(-1)  # (b, h, 1)
        return (counts * (output - target) ** 2).mean()

    def _draft_loss(self, inputs: PlannerDraw) -> Tensor:
        """Teacher-forced error of what follows every token but the last, shape ().

        L_AR = mean_k |f(s_0:k, R_0:k) - (s_k+1, R_k+1)|^2, in units of a token's usual change.
        """
        assert self.model.drafter is not None
        size = len(inputs.states)
        num = max(1, round(self.losses.drafter_share * size))
        # Evenly spread, so that processes that share a batch choose the same rows as one does.
        chosen = torch.arange(num, device=inputs.states.device) * size // num  # (n,)
        drafter, rows = self.model.drafter, inputs.select(chosen)
        assert rows.jitter is not None
        targets = self.model.targets(rows.returns, rows.goal)  # (b, t, 1 or g)
        tokens = self.model.encode_tokens(rows.states, targets)  # (b, t, token)
        predicted, actual = drafter.change(tokens, rows.jitter)  # each (b, t - 1, token)
        return (rows.valid[:, 1:, None] * (predicted - actual) ** 2).mean()
