"""Tiny planners and episodes with rewards that the tests of planners share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hotloop.decoding import ActionSpec
from hotloop.policies.networks.config import NetworkConfig
from hotloop.policies.planners.config import DrafterConfig, PlannerConfig, PlannerSampling
from hotloop.policies.planners.model import PlannerModel
from hotloop.train.data.episodes import Episodes
from hotloop.train.families.planners import prepare_planner

SPEC = ActionSpec(("force x [N]", "force y [N]"), (-1.0, -1.0), (1.0, 1.0), dt=0.1)
HORIZON, LEVELS = 6, 10
TRAJECTORY = PlannerSampling(draft="rollout", calls_per_step=2, guidance=1.2, return_floor=0.3)
DECISION = PlannerSampling(calls_per_step=5, update="ddpm", temperature=0.5, guidance=1.2)
DIFFUSER = PlannerSampling(
    calls_per_step=5, update="ddpm", guidance=0.0, value_steps=2, candidates=3, select="value"
)


def walks(num_episodes: int = 8, length: int = 20, rewards: bool = True) -> Episodes:
    """Points pushed around a plane: the action is the change of velocity, the reward the speed."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (num_episodes, length, 2))
    before = np.concatenate([np.zeros_like(actions[:, :1]), actions[:, :-1]], axis=1)
    velocity = np.cumsum(0.1 * before, axis=1)
    position = np.cumsum(0.1 * velocity, axis=1) + rng.uniform(-1, 1, (num_episodes, 1, 2))
    state = np.concatenate([position, velocity], axis=-1).reshape(-1, 4).astype(np.float32)
    goal = np.repeat(position[:, -1], length, axis=0).astype(np.float32)
    speed = np.linalg.norm(velocity, axis=-1).reshape(-1).astype(np.float32)
    ends = np.arange(1, num_episodes + 1) * length
    observations = {"observation.state": state}
    if not rewards:
        observations["observation.goal"] = goal
    return Episodes(
        observations,
        actions.reshape(-1, 2).astype(np.float32),
        ends,
        speed if rewards else None,
        terminated=np.arange(num_episodes) % 2 == 0,
    )


def tiny_config(**choices: Any) -> PlannerConfig:
    """All parts of the Trajectory Diffuser, small."""
    defaults: dict[str, Any] = {
        "horizon": HORIZON,
        "num_levels": LEVELS,
        "inverse_width": 8,
        "network": NetworkConfig("mlp", 16, 1),
        "drafter": DrafterConfig(width=8, depth=2, num_heads=2),
        "critic": True,
    }
    return PlannerConfig(**{**defaults, **choices})


def tiny_planner(**choices: Any) -> PlannerModel:
    """A planner with random weights, large enough to matter, and the scales of `walks`."""
    config = tiny_config(**choices)
    model, _ = prepare_planner(config, walks(rewards=not config.goal_key), seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.eval().requires_grad_(False)
