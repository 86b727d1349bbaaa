"""Training of planners: all parts of a planner at once, each by its own loss."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ...decoding.samplers import prediction_target
from ...policies.normalizer import Normalizer
from ...policies.planners.config import PlannerConfig
from ...policies.planners.model import REWARD_KEY, Drafter, PlanBatch, PlannerModel
from ..data.episodes import Episodes
from ..data.plan_windows import PlanWindows

logger = logging.getLogger(__name__)

LARGE_NOISE = 0.1  # of the states' standard deviation


def prepare_planner(
    config: PlannerConfig, episodes: Episodes, seed: int
) -> tuple[PlannerModel, PlanWindows]:
    """Build a planner with random weights and the data's scales, and its training windows.

    Raises:
        ValueError: If the planner needs rewards or a goal that the data does not have.
    """
    shapes = {key: value.shape[1:] for key, value in episodes.observations.items()}
    if not config.goal_key:
        if episodes.rewards is None:
            raise ValueError(
                "a planner without a goal is conditioned on returns, but the dataset has no "
                "rewards; choose data with rewards or set policy.model.goal_key"
            )
        shapes[REWARD_KEY] = (1,)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PlannerModel(config, shapes, episodes.actions.shape[1])
    windows = PlanWindows(episodes, model.state_keys, config)
    states = Normalizer.fit(windows.states.numpy(), "z_score")
    model.coordinates.normalizer.load_state_dict(states.state_dict())
    model.coordinates.slot_scale.copy_(1 / windows.displacement_scale(config.horizon))
    actions = Normalizer.fit(episodes.actions, "min_max")
    model.action_normalizer.load_state_dict(actions.state_dict())
    model.return_scale.fill_(windows.return_scale)
    if model.drafter is not None:
        fit_drafter(model, model.drafter, episodes, windows.return_scale)
    if windows.num_padded:
        logger.info(
            "%d of %d windows reach beyond the end of their episode and are padded there; %d of %d "
            "episodes have fewer than the %d steps of a plan",
            windows.num_padded,
            len(windows),
            windows.num_short,
            windows.num_episodes,
            windows.span + 1,
        )
    return model, windows


def fit_drafter(
    model: PlannerModel, drafter: Drafter, episodes: Episodes, return_scale: float
) -> None:
    """Tell the drafter how much states and returns usually change from one token to the next."""
    scales = model.coordinates.normalizer.scale, model.coordinates.slot_scale[1]
    drafter.gain[: model.state_dim] = scales[0] / scales[1]
    if not model.goal_dim:
        assert episodes.rewards is not None
        rewards = model.config.stride * episodes.rewards.astype(np.float64) / return_scale
        drafter.gain[-1] = max(float(rewards.std()), 1e-6)
        drafter.drift[-1] = -float(rewards.mean())


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
    goal = batch.states[row, arrival + model.config.context - 1, : model.goal_dim]
    stays = position > arrival[:, None]
    stays[:, -1] = True
    states = torch.where(stays.unsqueeze(-1), model.at_goal(goal).unsqueeze(1), batch.states)
    rests = (position >= arrival[:, None]).unsqueeze(-1)
    idle = model.action_normalizer.inverse(torch.zeros_like(batch.actions[:1, :1]))
    actions = torch.where(rests, idle, batch.actions)
    return PlanBatch(states, actions, batch.returns, torch.ones_like(batch.valid)), goal


class PlannerObjective(nn.Module):
    """Sum of the losses of a planner's parts.

    No parameter belongs to two parts and AdamW scales every parameter's step by itself, so this
    is training each part with an optimiser of its own.

    Args:
        model: Planner to train.
        condition_dropout: Share of samples whose return is hidden from the denoiser.
        drafter_share: Share of the batch that the drafter sees; it learns from every token.
        drafter_noise: Standard deviation of the noise on the states that the drafter reads, in
            units of their usual change in one step; it learns to come back from there.
    """

    def __init__(
        self,
        model: PlannerModel,
        condition_dropout: float = 0.25,
        drafter_share: float = 0.25,
        drafter_noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.condition_dropout, self.drafter_share = condition_dropout, drafter_share
        self.drafter_noise = drafter_noise
        if model.drafter is not None and not model.goal_dim:
            warn_of_large_noise(drafter_noise, model.drafter.gain[: model.state_dim])

    def prepare(self, step: int) -> None:
        """Nothing to prepare."""

    def draw(self, batch: PlanBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw noise level, noise, and whose condition is dropped, for each sample."""
        config, device = self.model.config, batch.states.device
        num, past = len(batch.states), config.context - 1
        moves, goal = batch.valid[:, past + 1], None
        if self.model.goal_dim:
            reachable = batch.valid[:, past:].sum(dim=1).cpu()
            arrival = (torch.rand(num, generator=generator) * reachable).long().to(device)
            batch, goal = hindsight_goals(self.model, batch, arrival)
            moves = arrival > 0
        level = torch.randint(1, config.num_levels + 1, (num,), generator=generator)
        levels = level[:, None].repeat(1, config.horizon)
        levels[:, list(self.model.pinned)] = 0
        shape = (num, config.horizon, self.model.plan_dim)
        keep = torch.rand(num, generator=generator) >= self.condition_dropout
        inputs = {
            "states": batch.states,
            "actions": batch.actions,
            "returns": batch.returns,
            "valid": batch.valid.float(),
            "moves": moves.float(),
            "level": levels.to(device),
            "noise": torch.randn(shape, generator=generator).to(device),
            "keep": keep.float().to(device),
        }
        if goal is not None:
            inputs["goal"] = goal
        if self.model.drafter is not None:
            jitter = torch.randn(batch.states.shape, generator=generator)
            inputs["jitter"] = self.drafter_noise * jitter.to(device)
        return inputs

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Mean loss of the batch; a goal needs no return, so its condition is always dropped."""
        model, past = self.model, self.model.config.context - 1
        states, actions = inputs["states"][:, past:], inputs["actions"][:, past:]
        valid, returns = inputs["valid"][:, past:], inputs["returns"][:, past]
        clean = model.encode_plan(states, actions)
        x = model.schedule.add_noise(clean, inputs["noise"], inputs["level"])
        keep = torch.zeros_like(inputs["keep"]) if model.goal_dim else inputs["keep"]
        level = inputs["level"] / model.config.num_levels
        output = model.denoiser(x, level, model.condition(returns, keep))
        prediction = model.config.prediction
        target = prediction_target(
            model.schedule, prediction, clean, inputs["noise"], inputs["level"]
        )
        # Pinned positions are known, and what lies behind the end of an episode is not.
        counts = (valid * (inputs["level"] > 0)).unsqueeze(-1)
        loss = (counts * (output - target) ** 2).mean()
        if model.inverse is not None:
            found = model.inverse(model.coordinates.step(states[:, 0], states[:, 1]))
            error = (found - model.action_normalizer(actions[:, 0])) ** 2
            loss = loss + (inputs["moves"][:, None] * error).mean()
        if model.critic is not None:
            state = model.coordinates.normalizer(states[:, 0])
            action = model.action_normalizer(actions[:, 0])
            loss = loss + ((model.critic(state, action)[:, 0] - returns) ** 2).mean()
        if model.value is not None:
            found = model.value(x, model.value.embed_level(level.amax(dim=1)))
            loss = loss + ((found - returns) ** 2).mean()
        return loss + self._draft_loss(inputs) if model.drafter is not None else loss

    def _draft_loss(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Teacher-forced error of what follows every token but the last."""
        assert self.model.drafter is not None
        num = max(1, round(self.drafter_share * len(inputs["states"])))
        drafter, valid = self.model.drafter, inputs["valid"][:num, 1:, None]
        goal = inputs["goal"][:num] if self.model.goal_dim else None
        targets = self.model.targets(inputs["returns"][:num], goal)
        tokens = self.model.encode_tokens(inputs["states"][:num], targets)
        predicted, actual = drafter.change(tokens, inputs["jitter"][:num])
        return (valid * (predicted - actual) ** 2).mean()
