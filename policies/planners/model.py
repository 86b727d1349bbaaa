"""The trained parts of all planners: denoiser, drafter, inverse dynamics, critic, value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...decoding.schedules import NoiseSchedule
from ..networks.build import build_network
from ..networks.causal import Cache, CausalTransformer
from ..networks.config import WindowSizes
from ..networks.heads import PlanValue, Regressor
from ..normalizer import Normalizer
from .config import PlannerConfig

REWARD_KEY = "reward"


@dataclass(frozen=True)
class PlanBatch:
    """Training windows in physical units; frame T - H is the current one.

    Attributes:
        states: Shape (B, T, O), T = context + H - 1.
        actions: Action of each frame, shape (B, T, A).
        returns: Return from each frame on, share of the data's largest, shape (B, T).
        valid: False behind the end of an episode, where the last frame is repeated, shape (B, T).
    """

    states: Tensor
    actions: Tensor
    returns: Tensor
    valid: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> PlanBatch:
        """Return the batch on `device`; `non_blocking` as in `torch.Tensor.to`."""
        moved = (one.to(device, non_blocking=non_blocking) for one in vars(self).values())
        return PlanBatch(*moved)


class Coordinates(nn.Module):
    """Maps a window of states to what is diffused, and back.

    Position 0, the current state, is normalised by itself. Every later position is its
    displacement from the current state, scaled to unit variance by position and feature: one step
    ahead a joint moves by a hundredth of its range, and noise must not drown that.

    Args:
        horizon: States H.
        state_dim: Features O.
    """

    slot_scale: Tensor

    def __init__(self, horizon: int, state_dim: int) -> None:
        super().__init__()
        self.normalizer = Normalizer(state_dim)
        self.register_buffer("slot_scale", torch.ones(horizon, state_dim))

    def forward(self, states: Tensor) -> Tensor:
        """Encode states (B, H, O)."""
        # Written for compiled graphs: three operations on the whole window, the rest constant.
        later = self._later()  # (h, 1)
        gain = torch.where(later > 0, self.slot_scale, self.normalizer.scale)  # (h, o)
        return (states - later * states[:, :1]) * gain + (1 - later) * self.normalizer.offset

    def inverse(self, plan: Tensor, current: Tensor) -> Tensor:
        """States (B, H, O) of an encoded plan that begins at `current`, shape (B, O)."""
        return current.unsqueeze(1) + plan * (self._later() / self.slot_scale)

    def _later(self) -> Tensor:
        """0 at the current state and 1 at later ones, shape (H, 1)."""
        later = torch.ones_like(self.slot_scale[:, :1])
        return torch.cat([torch.zeros_like(later[:1]), later[1:]])

    def step(self, state: Tensor, next_state: Tensor) -> Tensor:
        """Encode one step as (..., 2 O): where it begins and how far it goes."""
        moved = (next_state - state) * self.slot_scale[1]
        return torch.cat([self.normalizer(state), moved], dim=-1)


class Drafter(nn.Module):
    """Predicts the next state and the target from there on, token by token.

    A token is an encoded state, normalised, and the target there: a return-to-go, a share of
    the data's largest, or a goal. What the network predicts is the change of both in units of
    their usual change.

    Args:
        config: The planner's configuration.
        state_dim: Features O.
        target_dim: Size Q of a target.

    Attributes:
        gain: Usual size of each feature's change, O + Q.
        drift: Usual change of the return, behind O zeros.
    """

    gain: Tensor
    drift: Tensor

    def __init__(self, config: PlannerConfig, state_dim: int, target_dim: int) -> None:
        super().__init__()
        assert config.drafter is not None
        size, choice = state_dim + target_dim, config.drafter
        self.target_dim = target_dim
        length = choice.context + config.horizon - 1
        self.network = CausalTransformer(
            size, size, length, choice.width, choice.depth, choice.num_heads
        )
        self.register_buffer("gain", torch.ones(size))
        self.register_buffer("drift", torch.zeros(size))

    def forward(self, tokens: Tensor) -> Tensor:
        """What follows each of the tokens (B, L, O + Q), same shape."""
        return tokens + self.drift + self.gain * self.network(tokens)

    def prefill(self, tokens: Tensor) -> tuple[Tensor, Cache]:
        """What follows the last of the tokens (B, L, O + Q), shape (B, O + Q), and the cache."""
        change, cache = self.network.prefill(tokens)
        return tokens[:, -1] + self.drift + self.gain * change[:, -1], cache

    def decode(self, token: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """What follows one more token (B, O + Q), same shape, and the cache."""
        change, cache = self.network.decode(token, cache)
        return token + self.drift + self.gain * change, cache

    def change(self, tokens: Tensor, jitter: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted and actual changes from each token to the next, both (B, L - 1, O + Q).

        Args:
            tokens: Shape (B, L, O + Q).
            jitter: Noise on the states that are read, in units of their usual change, (B, L, O).
        """
        read = tokens + nn.functional.pad(jitter, (0, self.target_dim)) * self.gain
        actual = (tokens[:, 1:] - read[:, :-1] - self.drift) / self.gain  # (b, l - 1, o + q)
        return self.network(read[:, :-1]), actual


class PlannerModel(nn.Module):
    """Normalisers, noise schedule and the networks that a planner consists of.

    Args:
        config: Sizes and parts.
        observation_shapes: Shape of one frame per key; the order of keys is part of the model.
        action_dim: Action size A.
    """

    return_scale: Tensor

    def __init__(
        self,
        config: PlannerConfig,
        observation_shapes: Mapping[str, tuple[int, ...]],
        action_dim: int,
    ) -> None:
        super().__init__()
        self.config, self.action_dim = config, action_dim
        self.observation_shapes = dict(observation_shapes)
        self.state_keys = tuple(
            key for key in observation_shapes if key not in (config.goal_key, REWARD_KEY)
        )
        if config.goal_key and config.goal_key not in observation_shapes:
            raise ValueError(
                f"goal_key must be one of the observations {sorted(observation_shapes)}, got "
                f"{config.goal_key!r}"
            )
        sizes = {key: int(torch.Size(s).numel()) for key, s in observation_shapes.items()}
        self.state_dim = sum(sizes[key] for key in self.state_keys)
        self.goal_dim = sizes[config.goal_key] if config.goal_key else 0
        self.plan_dim = self.state_dim + (action_dim if config.joint else 0)
        self.schedule = NoiseSchedule(config.num_levels)
        self.coordinates = Coordinates(config.horizon, self.state_dim)
        self.action_normalizer = Normalizer(action_dim)
        # Largest return of the data, physical: every return is a share of it.
        self.register_buffer("return_scale", torch.ones(()))
        condition_dim = 2 if config.guidance_range is None else 3
        self.denoiser = build_network(
            config.network,
            WindowSizes(config.horizon, self.plan_dim, condition_dim, jump=config.jump),
        )
        step_dim, width = 2 * self.state_dim, config.inverse_width
        self.inverse = None if config.joint else Regressor(step_dim, action_dim, width)
        target_dim = self.goal_dim or 1
        self.drafter = Drafter(config, self.state_dim, target_dim) if config.drafter else None
        self.critic = Regressor(self.state_dim + action_dim, 1, width) if config.critic else None
        self.value = PlanValue(config.horizon, self.plan_dim, width) if config.value else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.return_scale.device

    @property
    def observation_normalizer(self) -> Normalizer:
        """Scales of one state."""
        return self.coordinates.normalizer

    @property
    def pinned(self) -> tuple[int, ...]:
        """Positions of a plan that are known: the current state, and a goal."""
        return (0, self.config.horizon - 1) if self.goal_dim else (0,)

    def encode_plan(self, states: Tensor, actions: Tensor) -> Tensor:
        """Encode states (B, H, O), and in a joint plan actions (B, H, A), as (B, H, D).

        Position k holds the action that led to state k, position 0 none.
        """
        plan = self.coordinates(states)
        if not self.config.joint:
            return plan
        before = self.action_normalizer(actions[:, :-1])  # (b, h - 1, a)
        before = torch.cat([torch.zeros_like(before[:, :1]), before], dim=1)  # (b, h, a)
        return torch.cat([plan, before], dim=-1)  # (b, h, o + a)

    def at_goal(self, goal: Tensor) -> Tensor:
        """State (B, O) with the features of a goal (B, G), at rest."""
        return nn.functional.pad(goal, (0, self.state_dim - self.goal_dim))

    def targets(self, returns: Tensor, goal: Tensor | None) -> Tensor:
        """What the drafter heads for at each state: return-to-go or goal, shape (B, L, Q).

        Args:
            returns: Share of the data's largest return, shape (B, L).
            goal: Goal in physical units, shape (B, G), of which the returns do not matter.
        """
        if goal is None:
            return returns.unsqueeze(-1)
        normalised = self.coordinates.normalizer(self.at_goal(goal))[:, : self.goal_dim]  # (b, g)
        return normalised.unsqueeze(1).expand(-1, returns.shape[1], -1)

    def actions(self, plan: Tensor, states: Tensor, num: int) -> Tensor:
        """First `num` physical actions (B, num, A) along an encoded plan (B, H, D) and its states.

        Inverse dynamics are by far the largest part of what follows the plan, so they are best
        found for no more steps than are executed.
        """
        if self.inverse is None:
            return self.action_normalizer.inverse(plan[:, 1 : num + 1, self.state_dim :])
        if num == 1:
            # The plan encodes its first step just as inverse dynamics read it.
            steps = plan[:, :2].flatten(1).unsqueeze(1)  # (b, 1, 2 o)
        else:
            steps = self.coordinates.step(states[:, :num], states[:, 1 : num + 1])  # (b, num, 2 o)
        return self.action_normalizer.inverse(self.inverse(steps))

    def encode_tokens(self, states: Tensor, targets: Tensor) -> Tensor:
        """Tokens of the drafter (B, L, O + Q) for states (B, L, O) and targets (B, L, Q)."""
        return torch.cat([self.coordinates.normalizer(states), targets], dim=-1)

    def decode_tokens(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, L, O) and targets (B, L, Q) of tokens (B, L, O + Q)."""
        size = self.state_dim
        return self.coordinates.normalizer.inverse(tokens[..., :size]), tokens[..., size:]

    def condition(self, returns: Tensor, keep: Tensor, weight: Tensor | float = 0.0) -> Tensor:
        """What the denoiser is conditioned on, shape (B, 2), or (B, 3) if it is told a weight.

        Args:
            returns: Share of the data's largest return, shape (B,).
            keep: 0 where there is no condition, shape (B,).
            weight: Guidance weight, shape (B,), for a denoiser that is told it.
        """
        parts = [returns * keep, keep]
        if self.config.guidance_range is not None:
            low, high = self.config.guidance_range
            # 0 at the smallest weight, where a student of weight 1 is its teacher's plain network.
            parts.append(keep * (weight - low) / (high - low))
        return torch.stack(parts, dim=-1)

    def embed_level(self, level: Tensor, jump: Tensor) -> Tensor:
        """Level modulation (B, ...) of levels (B, H), and of jumps (B,) if it is told those.

        Both are whole numbers. One level counts as an infinitesimal jump.
        """
        scaled = level.float() / self.config.num_levels
        if not self.config.jump:
            return self.denoiser.embed_level(scaled)
        jump = torch.where(jump > 1, jump, 0).float() / self.config.num_levels
        return self.denoiser.embed_level(scaled, jump)

    def config_dict(self) -> dict[str, Any]:
        """The configuration as JSON-able values."""
        return asdict(self.config)
