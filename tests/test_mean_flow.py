"""MeanFlow's target: the exact jumps of a distribution whose flow is known stay where they are."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_model
from torch import Tensor, nn

from hotloop.decoding.schedules import NoiseSchedule
from hotloop.policies.networks.config import NetworkConfig, WindowSizes
from hotloop.policies.networks.denoiser import Denoiser
from hotloop.train.objectives.mean_flow import MeanFlowDraw, MeanFlowObjective, linear_time
from hotloop.train.objectives.observed import Seen

LEVELS, SPREAD = 400, 0.5


class GaussianJumps(Denoiser):
    """Exact jumps of actions that are N(0, 0.25), times a gain; deaf to jumps if asked to be."""

    def __init__(self, schedule: NoiseSchedule, deaf: bool) -> None:
        super().__init__()
        self.schedule, self.deaf = schedule, deaf
        self.gain = nn.Parameter(torch.ones(()))

    @classmethod
    def build(cls, config: NetworkConfig, sizes: WindowSizes) -> GaussianJumps:
        raise NotImplementedError

    def embed_level(self, level: Tensor, jump: Tensor | None = None) -> Tensor:
        assert jump is not None
        down = jump[:, None].expand_as(level)
        return (torch.stack([level, level - down], dim=-1) * LEVELS).round().long()  # (b, h, 2)

    def encode(self, observation: Tensor) -> Tensor:
        return observation

    def denoise(
        self, x: Tensor, level_modulation: Tensor, observation_modulation: Tensor
    ) -> Tensor:
        level, next_level = level_modulation.unbind(-1)
        stays = (level == next_level)[..., None] | self.deaf
        time, end = (linear_time(self.schedule, one)[..., None] for one in (level, next_level))
        signal, sigma = self.schedule.signal(level), self.schedule.sigma(level)
        linear = x / (signal + sigma)[..., None]
        scale = [((1 - one) ** 2 * SPREAD**2 + one**2) ** 0.5 for one in (time, end)]
        denoised = linear * (1 - time) * SPREAD**2 / scale[0] ** 2
        share = end / time
        jumped = (linear * scale[1] / scale[0] - share * linear) / (1 - share).clamp(min=1e-9)
        return self.gain * torch.where(stays, denoised, jumped)


@pytest.mark.parametrize(("deaf", "still"), [(False, True), (True, False)])
def test_only_exact_jumps_are_at_rest(deaf: bool, still: bool) -> None:
    model = tiny_model(num_levels=LEVELS, ladders=(), jump=True)
    model.network = GaussianJumps(model.schedule, deaf)
    num, horizon, size = 20_000, *model.window_shape
    generator = torch.Generator().manual_seed(0)
    clean = SPREAD * torch.randn(num, horizon, size, generator=generator)
    noise = torch.randn(num, horizon, size, generator=generator)
    level = torch.randint(20, LEVELS - 20, (num, 1), generator=generator)
    next_level = (torch.rand(num, 1, generator=generator) * (level - 10)).long()
    seen = Seen(torch.zeros(num, 2, 5))
    levels = (one.expand(-1, horizon) for one in (level, next_level))
    loss = MeanFlowObjective(model)(MeanFlowDraw(seen, clean, noise, *levels))
    loss.backward()
    assert model.network.gain.grad is not None
    assert (abs(float(model.network.gain.grad)) < 0.01) == still


def test_samples_that_do_not_jump_are_denoised() -> None:
    model = tiny_model(ladders=(), jump=True)
    objective = MeanFlowObjective(model)
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 8, *model.window_shape, generator=generator)
    level = torch.randint(1, 25, (8, 1), generator=generator).expand(-1, model.config.horizon)
    seen = Seen(torch.randn(8, 2, 5, generator=generator))
    x = model.schedule.add_noise(clean, noise, level)
    expected = ((model.predict(x, level, seen.context(model)) - clean) ** 2).mean()
    loss = objective(MeanFlowDraw(seen, clean, noise, level, level))
    torch.testing.assert_close(loss, expected)
