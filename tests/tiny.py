"""Tiny models, fake networks and observations that the tests of policies and training share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hotloop.decoding import ActionSpec, ActionTrajectory, Observation, Policy
from hotloop.decoding.rolling import Ladder
from hotloop.policies.diffusion.model import DiffusionModel, ModelConfig
from hotloop.policies.networks.config import NetworkConfig, WindowSizes
from hotloop.policies.networks.denoiser import Denoiser
from hotloop.train.data.episodes import Episodes

LOW, HIGH = (-3.0, -1.0), (1.0, 5.0)
SPEC = ActionSpec(("x [m]", "y [m]"), LOW, HIGH, dt=0.1)
SHAPES = {"observation.goal": (3,), "observation.position": (2,)}


class Call(NamedTuple):
    """What a network saw: noisy actions and integer levels, one row each, shape (R, H, ...)."""

    x: np.ndarray
    level: np.ndarray


class FakeNetwork(Denoiser):
    """A network made of a function of (x, integer levels, observation); it records its calls."""

    def __init__(self, num_levels: int, function: Callable[[Tensor, Tensor, Tensor], Tensor]):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))
        self.num_levels, self.function = num_levels, function
        self.calls: list[Call] = []

    @classmethod
    def build(cls, config: NetworkConfig, sizes: WindowSizes) -> FakeNetwork:
        raise NotImplementedError("a fake is put in place by hand")

    def embed_level(self, level: Tensor, jump: Tensor | None = None) -> Tensor:
        return level

    def encode(self, observation: Tensor) -> Tensor:
        return observation

    def denoise(
        self, x: Tensor, level_modulation: Tensor, observation_modulation: Tensor
    ) -> Tensor:
        level = (level_modulation * self.num_levels).round().long().expand(len(x), -1)
        self.calls.append(Call(x.clone().numpy(), level.clone().numpy()))
        return self.function(x, level, observation_modulation)


def constant_network(num_levels: int, value: float = 0.3) -> FakeNetwork:
    """A network that knows that every clean action is `value` (prediction "sample")."""
    return FakeNetwork(num_levels, lambda x, level, observation: torch.full_like(x, value))


def tiny_model(
    *,
    horizon: int = 9,
    num_obs_steps: int = 2,
    num_levels: int = 24,
    ladders: tuple[str, ...] = ("1x8", "2x4", "4x2", "8x1"),
    prediction: str = "sample",
    jump: bool = False,
    max_latency: int = 0,
    network: Denoiser | None = None,
) -> DiffusionModel:
    """A model with random weights, large enough that clipping happens, for the actions of SPEC."""
    sizes = NetworkConfig("mlp", 16, 1)
    config = ModelConfig(
        horizon, num_obs_steps, num_levels, ladders, prediction, jump, sizes, max_latency
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DiffusionModel(config, SHAPES, SPEC.size)
        for parameter in model.network.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape)
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    model.action_normalizer.scale.copy_(2 / (high - low))
    model.action_normalizer.offset.copy_(-(high + low) / (high - low))
    model.observation_normalizer.scale.fill_(0.5)
    if network is not None:
        model.network = network
    return model.eval().requires_grad_(False)


def demonstrations(num_episodes: int = 6, length: int = 30) -> Episodes:
    """Smooth motions whose phase and direction can be told from the observation."""
    rng, time = np.random.default_rng(0), np.arange(length)[:, None]
    phases = rng.uniform(0, 6, (num_episodes, 1, 2))
    actions = np.concatenate([np.sin(0.3 * time + phase) for phase in phases])
    velocities = np.concatenate([np.cos(0.3 * time + phase) for phase in phases])
    actions = (actions * [2, 3] + [-1, 2]).astype(np.float32)
    goal = np.concatenate([velocities, velocities[:, :1]], axis=1).astype(np.float32)
    observations = {"observation.goal": goal, "observation.position": actions}
    return Episodes(observations, actions, np.arange(1, num_episodes + 1) * length)


def observe(step: np.ndarray | list[int], rows: np.ndarray, num_obs_steps: int = 2) -> Observation:
    """Frames that differ by row, step, key and dimension; the last frame is that of `step`."""
    step = np.asarray(step, np.int64)
    time = step[:, None] + np.arange(num_obs_steps) - (num_obs_steps - 1)
    wave = np.sin(0.7 * time + rows[:, None] + 1)[..., None]
    frames = {
        "observation.position": (wave + np.array([-1.0, 2.0])).astype(np.float32),
        "observation.goal": (wave * np.array([0.5, 1.0, -1.0])).astype(np.float32),
    }
    return Observation(frames, step, rows)


def stream(
    policy: Policy, seeds: list[int], num_plans: int, num_obs_steps: int = 2
) -> list[ActionTrajectory]:
    """Plans of an episode of ``len(seeds)`` rows, each executed for `num_execute` steps."""
    policy.reset(np.array(seeds))
    return [
        plan_at(policy, index * policy.num_execute, np.arange(len(seeds)), num_obs_steps)
        for index in range(num_plans)
    ]


def plan_at(
    policy: Policy, step: int, rows: np.ndarray, num_obs_steps: int = 2
) -> ActionTrajectory:
    """Plan for `rows` at control step `step`, from the observation of that step."""
    steps = np.full(len(rows), step)
    return policy.plan(observe(steps, rows, num_obs_steps), steps)


def normalised(model: DiffusionModel, actions: np.ndarray) -> np.ndarray:
    """Normalise physical actions (..., D)."""
    return model.action_normalizer(torch.from_numpy(actions)).numpy()


def support(ladders: Sequence[Ladder]) -> set[tuple[int, ...]]:
    """All level vectors that chunk-wise training of `ladders` contains."""
    return {
        tuple(int(k) for k in ladder.levels(j))
        for ladder in ladders
        for j in range(ladder.levels_per_step)
    }


def write_pusht_file(path: Path) -> Path:
    """Three short episodes of random numbers in the layout of the Push-T file."""
    rng, steps = np.random.default_rng(0), 40
    np.savez(
        path,
        state=rng.uniform(0, 512, (steps, 5)).astype(np.float32),
        keypoint=rng.uniform(0, 512, (steps, 18)).astype(np.float32),
        action=rng.uniform(0, 512, (steps, 2)).astype(np.float32),
        episode_ends=np.array([11, 20, 40]),
    )
    return path
