"""Reverse steps: textbook formulas, agreement with diffusers, and exactness where it is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from hotloop.decoding.samplers import (
    PREDICTIONS,
    UPDATES,
    StepCoefficients,
    apply_step,
    reverse,
    sampling_levels,
    spaced_levels,
    step_coefficients,
)
from hotloop.decoding.schedules import NoiseSchedule

N = 100
SCHEDULE = NoiseSchedule(N)
DIFFUSERS_NAME = {"epsilon": "epsilon", "sample": "sample", "velocity": "v_prediction"}
every_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)
every_update = pytest.mark.parametrize("update", UPDATES)


def draws(shape: tuple[int, ...] = (2, 4, 3), count: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def one_step(x: Tensor, output: Tensor, level: int, next_level: int, *names: str) -> Tensor:
    """A step of a whole window; noise, where it is added, comes from seed 1."""
    levels = np.full(x.shape[1], level), np.full(x.shape[1], next_level)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return apply_step(x, output, step_coefficients(SCHEDULE, *levels, *names), noise)


@every_prediction
@pytest.mark.parametrize("stride", [1, 5, 20])
def test_ddim_steps_are_those_of_diffusers(prediction: str, stride: int) -> None:
    theirs = DDIMScheduler(
        N, beta_schedule="squaredcos_cap_v2", prediction_type=DIFFUSERS_NAME[prediction]
    )
    theirs.set_timesteps(N // stride)
    x, output = draws()
    for timestep in theirs.timesteps.tolist():
        expected = theirs.step(output, timestep, x, return_dict=False)[0]
        next_level = max(timestep + 1 - stride, 0)
        actual = one_step(x, output, timestep + 1, next_level, prediction, "ddim")
        torch.testing.assert_close(actual, expected, rtol=2e-4, atol=2e-5)


@every_prediction
@pytest.mark.parametrize("stride", [1, 5, 20])
def test_ddpm_steps_are_those_of_diffusers(prediction: str, stride: int) -> None:
    theirs = DDPMScheduler(
        N,
        beta_schedule="squaredcos_cap_v2",
        variance_type="fixed_small",
        prediction_type=DIFFUSERS_NAME[prediction],
    )
    theirs.set_timesteps(N // stride)
    x, output = draws()
    for timestep in theirs.timesteps.tolist():
        seed = torch.Generator().manual_seed(1)
        expected = theirs.step(output, timestep, x, generator=seed, return_dict=False)[0]
        next_level = max(timestep + 1 - stride, 0)
        actual = one_step(x, output, timestep + 1, next_level, prediction, "ddpm")
        torch.testing.assert_close(actual, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(("level", "next_level"), [(100, 99), (80, 30), (7, 6), (1, 0), (60, 0)])
def test_coefficients_are_the_textbook_formulas(level: int, next_level: int) -> None:
    ab, ab_next = SCHEDULE.alpha_bar[[level, next_level]]
    alpha = ab / ab_next
    pair = np.array(level), np.array(next_level)
    ddpm = step_coefficients(SCHEDULE, *pair, "epsilon", "ddpm")
    np.testing.assert_allclose(ddpm.c_0, np.sqrt(ab_next) * (1 - alpha) / (1 - ab), rtol=1e-9)
    np.testing.assert_allclose(ddpm.c_x, np.sqrt(alpha) * (1 - ab_next) / (1 - ab), rtol=1e-9)
    posterior_variance = (1 - ab_next) / (1 - ab) * (1 - alpha)
    np.testing.assert_allclose(ddpm.c_z**2, posterior_variance, rtol=1e-9, atol=1e-15)
    assert ddpm.c_f == 0
    ddim = step_coefficients(SCHEDULE, *pair, "epsilon", "ddim")
    np.testing.assert_allclose(ddim.c_0, np.sqrt(ab_next), rtol=1e-12)
    np.testing.assert_allclose(ddim.c_f, np.sqrt(1 - ab_next), rtol=1e-12)
    assert ddim.c_x == ddim.c_z == 0
    for coefficients in (ddim, ddpm):
        np.testing.assert_allclose(coefficients.p_x, ab**-0.5, rtol=1e-12)
        np.testing.assert_allclose(coefficients.p_f, -(((1 - ab) / ab) ** 0.5), rtol=1e-12)


@every_update
def test_all_predictions_of_one_clean_action_take_the_same_step(update: str) -> None:
    """Noise, clean action and velocity are three ways to say the same thing: a round trip."""
    clean, noise = draws(count=2).double()
    clean = clean.clamp(-1, 1)
    level, next_level = np.array([90, 50, 20, 1]), np.array([70, 49, 20, 0])
    alpha_bar = torch.from_numpy(SCHEDULE.alpha_bar[level])[:, None]
    signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    x = signal * clean + sigma * noise
    outputs = {"epsilon": noise, "sample": clean, "velocity": signal * noise - sigma * clean}
    results = {}
    for prediction, output in outputs.items():
        c = step_coefficients(SCHEDULE, level, next_level, prediction, update)
        x0 = torch.from_numpy(c.p_x)[:, None] * x + torch.from_numpy(c.p_f)[:, None] * output
        torch.testing.assert_close(x0, clean, rtol=0, atol=1e-9)
        results[prediction] = apply_step(x, output, c)
    torch.testing.assert_close(results["epsilon"], results["sample"], rtol=0, atol=1e-9)
    torch.testing.assert_close(results["velocity"], results["sample"], rtol=0, atol=1e-9)


@every_prediction
@every_update
def test_a_position_whose_level_stays_is_not_touched(prediction: str, update: str) -> None:
    x, output = draws(shape=(2, 5, 3))
    level, next_level = np.array([0, 1, 40, 100, 100]), np.array([0, 1, 40, 100, 99])
    c = step_coefficients(SCHEDULE, level, next_level, prediction, update)
    result = apply_step(x, 10 * output, c, output)
    assert torch.equal(result[:, :4], x[:, :4])
    assert not torch.isclose(result[:, 4], x[:, 4]).any()


@every_update
def test_a_constant_level_vector_is_the_scalar_step(update: str) -> None:
    x, output = draws()
    c = step_coefficients(SCHEDULE, np.full(4, 60), np.full(4, 50), "epsilon", update)
    pair = np.array(60), np.array(50)
    scalar = StepCoefficients(
        *(float(v) for v in step_coefficients(SCHEDULE, *pair, "epsilon", update))
    )
    expected = scalar.c_0 * (scalar.p_x * x + scalar.p_f * output).clamp(-1, 1)
    expected = expected + scalar.c_x * x + scalar.c_f * output
    torch.testing.assert_close(apply_step(x, output, c), expected)


def test_rows_may_stand_at_levels_of_their_own() -> None:
    x = draws(count=1)[0]
    levels = [np.array([[80, 80, 90, 100], [30, 40, 50, 60]]), np.array([[8, 9, 70, 100], [0] * 4])]
    both = reverse(lambda x, k: x * k[..., None] / N, x, levels, SCHEDULE)
    for row in range(2):
        own = [level[row] for level in levels]
        alone = reverse(lambda x, k: x * k[..., None] / N, x[row : row + 1], own, SCHEDULE)
        torch.testing.assert_close(both[row : row + 1], alone)


def exact_epsilon(
    mean: float, std: float, schedule: NoiseSchedule
) -> Callable[[Tensor, Tensor], Tensor]:
    """The best noise prediction when every clean action is N(mean, std^2)."""

    def denoise(x: Tensor, level: Tensor) -> Tensor:
        alpha_bar = torch.from_numpy(schedule.alpha_bar)[level][..., None]
        variance = alpha_bar * std**2 + 1 - alpha_bar
        return (1 - alpha_bar).sqrt() * (x - alpha_bar.sqrt() * mean) / variance

    return denoise


def test_ddim_converges_to_the_known_flow_of_a_gaussian_with_order_one() -> None:
    """The probability flow of N(m, s^2) keeps the standardised value: z goes to m + s z."""
    mean, std, schedule = 0.1, 0.25, NoiseSchedule(2048)
    z = torch.linspace(-1.5, 1.5, 9, dtype=torch.float64).reshape(1, 9, 1)
    top = schedule.alpha_bar[-1]
    start = top**0.5 * mean + (top * std**2 + 1 - top) ** 0.5 * z
    errors = []
    for num_calls in (16, 32, 64, 128, 256):
        levels = [np.full(9, k) for k in spaced_levels(2048, 0, num_calls)]
        end = reverse(exact_epsilon(mean, std, schedule), start, levels, schedule)
        errors.append(float((end - mean - std * z).abs().max()))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert errors[-1] < 5e-3
    np.testing.assert_allclose(orders, 1, atol=0.1)


def test_ddpm_samples_follow_the_distribution_that_the_denoiser_knows() -> None:
    """Kolmogorov-Smirnov test of 3000 samples; without the added noise it fails by far."""
    mean, std, schedule = 0.1, 0.25, NoiseSchedule(300)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3000, 1, 1, generator=generator, dtype=torch.float64)
    levels = [np.full(1, k) for k in range(300, -1, -1)]
    denoise = exact_epsilon(mean, std, schedule)
    samples = reverse(denoise, start, levels, schedule, "epsilon", "ddpm", generator)
    assert stats.kstest(samples.flatten().numpy(), stats.norm(mean, std).cdf).pvalue > 0.05
    x = start
    for level, next_level in itertools.pairwise(levels):
        c = step_coefficients(schedule, level, next_level, "epsilon", "ddpm")
        x = apply_step(x, denoise(x, torch.from_numpy(level)), c)
    assert stats.kstest(x.flatten().numpy(), stats.norm(mean, std).cdf).pvalue < 1e-6


def test_ddpm_draws_from_the_given_generator_only() -> None:
    x = draws(count=1)[0]
    levels = [np.full(4, k) for k in (100, 50, 10)]

    def sample(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return reverse(lambda x, k: 0.1 * x, x, levels, SCHEDULE, "epsilon", "ddpm", generator)

    state = torch.get_rng_state()
    assert torch.equal(sample(0), sample(0))
    assert not torch.equal(sample(0), sample(1))
    assert torch.equal(torch.get_rng_state(), state)


@given(st.integers(0, 50), st.integers(1, 300), st.data())
def test_spaced_levels_fall_to_the_end_in_steps_as_equal_as_possible(
    stop: int, span: int, data: st.DataObject
) -> None:
    num_calls = data.draw(st.integers(1, span))
    levels = spaced_levels(stop + span, stop, num_calls)
    steps = -np.diff(levels)
    assert (levels[0], levels[-1], len(steps)) == (stop + span, stop, num_calls)
    assert steps.min() >= 1
    assert set(steps) <= {span // num_calls, -(-span // num_calls)}


@pytest.mark.parametrize("num_calls", [0, -1, 11])
def test_there_are_at_most_as_many_calls_as_levels(num_calls: int) -> None:
    with pytest.raises(ValueError, match=f"between 1 and 10 for levels 12 to 2, got {num_calls}"):
        spaced_levels(12, 2, num_calls)


@pytest.mark.parametrize(("level", "next_level"), [(10, 11), (5, -1), (101, 100)])
def test_levels_must_fall_within_the_schedule(level: int, next_level: int) -> None:
    pair = np.array([50, level]), np.array([50, next_level])
    with pytest.raises(ValueError, match=r"levels must fall within 0\.\.100"):
        step_coefficients(SCHEDULE, *pair, "epsilon", "ddim")


def test_unknown_names_are_answered_by_the_choices() -> None:
    pair = np.array([50]), np.array([40])
    with pytest.raises(ValueError, match=r"prediction must be one of .*'velocity'.*, got 'noise'"):
        step_coefficients(SCHEDULE, *pair, "noise", "ddim")
    with pytest.raises(ValueError, match=r"update must be one of .*'ddim'.*, got 'euler'"):
        step_coefficients(SCHEDULE, *pair, "epsilon", "euler")


@pytest.mark.parametrize("num_calls", [1, 3, 7, 10, 16, 50])
def test_leading_levels_are_the_timesteps_of_diffusers(num_calls: int) -> None:
    """So 10 calls of 100 levels begin at level 91, although the actions are pure noise."""
    scheduler = DDIMScheduler(100)
    scheduler.set_timesteps(num_calls)
    found = sampling_levels(100, num_calls, "leading")
    assert (found[:-1] - 1).tolist() == scheduler.timesteps.tolist()
    assert found[-1] == 0
    even = sampling_levels(100, num_calls, "even")
    assert (even[0], even[-1]) == (100, 0)


def test_another_spacing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"spacing must be one of .*, got 'trailing'"):
        sampling_levels(100, 10, "trailing")


def test_a_clean_estimate_may_go_unclipped() -> None:
    x = torch.tensor([[[3.0]]])
    level = np.array([1])
    c = step_coefficients(SCHEDULE, level, np.array([0]), "sample", "ddim")
    assert [float(apply_step(x, x, c, clip=clip)) for clip in (1.0, 2.0, None)] == [1, 2, 3]
