"""A U-Net takes any window: inside, the window is continued to a length that halves evenly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import SHAPES, SPEC, plan_at
from torch.nn import functional as F

from hotloop.policies.diffusion.config import StreamingSampling
from hotloop.policies.diffusion.model import DiffusionModel, ModelConfig
from hotloop.policies.diffusion.streaming import StreamingDiffusionPolicy
from hotloop.policies.networks.config import NetworkConfig
from hotloop.policies.networks.levels import LevelEmbedding
from hotloop.policies.networks.unet1d import UNet1DDenoiser

EMBEDDINGS = ("concatenated", "per_position")
DEFAULT_HORIZON = ModelConfig().horizon  # 17, which does not halve once


def unet(horizon: int, level_embedding: str) -> UNet1DDenoiser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet1DDenoiser(horizon, 2, 5, (8, 16, 24), LevelEmbedding(16), level_embedding)


def inputs(horizon: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, horizon, 2, generator=generator)
    level = torch.rand(3, horizon, generator=generator)
    return x, level, torch.randn(3, 5, generator=generator)


@pytest.mark.parametrize("level_embedding", EMBEDDINGS)
@pytest.mark.parametrize("horizon", [1, 2, 3, 7, DEFAULT_HORIZON, 20])
def test_every_horizon_gives_finite_actions_and_gradients(
    level_embedding: str, horizon: int
) -> None:
    network, (x, level, observation) = unet(horizon, level_embedding), inputs(horizon)
    output = network(x.requires_grad_(), level, observation)
    assert output.shape == x.shape
    output.square().mean().backward()
    assert x.grad is not None
    assert torch.isfinite(output).all()
    assert torch.isfinite(x.grad).all()
    assert (x.grad.abs().sum(dim=(0, 2)) > 0).all()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(("horizon", "padded"), [(3, 4), (7, 8), (DEFAULT_HORIZON, 20)])
def test_a_window_is_continued_by_zeros_at_its_last_level(horizon: int, padded: int) -> None:
    network, (x, level, observation) = unet(horizon, "per_position"), inputs(horizon)
    missing = padded - horizon
    continued = torch.cat([level, level[:, -1:].repeat(1, missing)], dim=1)
    expected = network(F.pad(x, (0, 0, 0, missing)), continued, observation)[:, :horizon]
    torch.testing.assert_close(network(x, level, observation), expected)


@pytest.mark.parametrize("level_embedding", EMBEDDINGS)
def test_a_policy_streams_a_continued_window(level_embedding: str) -> None:
    """That the runtimes agree on it is tested with the engines."""
    config = ModelConfig(ladders=("8x2",), network=NetworkConfig("unet", 16, 2, level_embedding))
    model = DiffusionModel(config, SHAPES, SPEC.size).eval().requires_grad_(False)
    policy = StreamingDiffusionPolicy(model, SPEC, StreamingSampling(8, calls_per_step=1))
    policy.reset(np.array([0]))
    for step in (0, 8):
        assert np.isfinite(plan_at(policy, step, np.array([0])).actions).all()
