"""Noise schedules: the squared-cosine tables of diffusers, shifted by one level."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from hotloop.decoding.schedules import NoiseSchedule

every_size = pytest.mark.parametrize("num_levels", [1, 10, 100, 120])


@every_size
def test_level_k_is_timestep_k_minus_1_of_diffusers(num_levels: int) -> None:
    theirs = DDPMScheduler(num_levels, beta_schedule="squaredcos_cap_v2").alphas_cumprod
    ours = NoiseSchedule(num_levels).alpha_bar
    np.testing.assert_allclose(ours[1:], theirs.numpy(), rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("betas", ["linear", "scaled_linear"])
@pytest.mark.parametrize("ends", [(None, None), (0.001, 0.1)])
def test_linear_betas_are_those_of_diffusers(betas: str, ends: tuple) -> None:
    first, last = ends
    theirs = DDPMScheduler(
        50, beta_schedule=betas, beta_start=first or 1e-4, beta_end=last or 0.02
    ).alphas_cumprod
    ours = NoiseSchedule(50, betas, first, last).alpha_bar
    np.testing.assert_allclose(ours[1:], theirs.numpy(), rtol=2e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sigmoid",), "one of squaredcos_cap_v2, linear, scaled_linear, got 'sigmoid'"),
        (("squaredcos_cap_v2", 0.1), r"has no first or last beta, got \[0.1\]"),
        (("linear", 0.1, 1.0), "between 0 and 1"),
    ],
)
def test_another_schedule_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(10, *arguments)


@every_size
def test_the_table_follows_the_paper_in_double_precision(num_levels: int) -> None:
    def f(time: float) -> float:
        return float(np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2)

    product, expected = 1.0, [1.0]
    for i in range(num_levels):
        product *= 1 - min(1 - f((i + 1) / num_levels) / f(i / num_levels), 0.999)
        expected.append(product)
    np.testing.assert_allclose(NoiseSchedule(num_levels).alpha_bar, expected, rtol=1e-12)


def test_published_values_of_100_levels() -> None:
    """Values that the Streaming Diffusion Policy's ladders stand on, to three digits."""
    alpha_bar = NoiseSchedule(100).alpha_bar
    published = {10: 0.972, 25: 0.847, 33: 0.747, 50: 0.494, 66: 0.255, 75: 0.144, 100: 0.0}
    for level, value in published.items():
        assert alpha_bar[level] == pytest.approx(value, abs=5e-4)


@every_size
def test_signal_falls_from_clean_to_almost_pure_noise(num_levels: int) -> None:
    alpha_bar = NoiseSchedule(num_levels).alpha_bar
    assert alpha_bar.shape == (num_levels + 1,)
    assert alpha_bar[0] == 1
    assert (np.diff(alpha_bar) < 0).all()
    assert 0 < alpha_bar[-1] < 2e-3


def test_signal_and_noise_share_the_variance() -> None:
    schedule = NoiseSchedule(30)
    level = torch.arange(31).reshape(1, 31)
    signal, sigma = schedule.signal(level), schedule.sigma(level)
    assert signal.shape == sigma.shape == (1, 31)
    assert signal.dtype == sigma.dtype == torch.float32
    torch.testing.assert_close(signal**2 + sigma**2, torch.ones(1, 31))
    assert signal[0, 0] == 1
    assert sigma[0, 0] == 0


def test_each_position_is_noised_to_its_own_level_as_diffusers_would() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 5, 2, generator=generator)
    level = torch.tensor([[0, 1, 17, 50, 100], [100, 99, 3, 2, 0], [0, 0, 0, 0, 0]])
    noisy = NoiseSchedule(100).add_noise(clean, noise, level)
    assert torch.equal(noisy[level == 0], clean[level == 0])
    theirs = DDPMScheduler(100, beta_schedule="squaredcos_cap_v2")
    dirty = level > 0
    expected = theirs.add_noise(clean[dirty], noise[dirty], level[dirty] - 1)  # type: ignore[arg-type]
    torch.testing.assert_close(noisy[dirty], expected, rtol=1e-5, atol=1e-5)


def test_a_schedule_needs_a_level() -> None:
    with pytest.raises(ValueError, match="needs at least 1 level, got 0"):
        NoiseSchedule(0)
