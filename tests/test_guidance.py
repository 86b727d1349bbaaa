"""Pinned positions, classifier-free guidance and value guidance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hotloop.decoding.guidance import (
    classifier_free,
    pinned_levels,
    posterior_variance,
    value_guidance,
)
from hotloop.decoding.samplers import reverse, spaced_levels, step_coefficients
from hotloop.decoding.schedules import NoiseSchedule

SCHEDULE = NoiseSchedule(20)


def test_pinned_positions_have_level_zero_throughout() -> None:
    vectors = pinned_levels([4, 2, 0], horizon=5, pinned=(0, 4))
    assert [vector.tolist() for vector in vectors] == [[0, 4, 4, 4, 0], [0, 2, 2, 2, 0], [0] * 5]


@pytest.mark.parametrize("update", ["ddim", "ddpm"])
def test_a_reverse_process_never_moves_a_pinned_position(update: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(2, 5, 3, generator=generator)
    levels = pinned_levels(list(spaced_levels(20, 0, 7)), 5, (0, 4))
    result = reverse(
        lambda x, level: torch.tanh(x), x, levels, SCHEDULE, "sample", update, generator
    )
    assert torch.equal(result[:, [0, 4]], x[:, [0, 4]])
    assert not torch.isclose(result[:, 1:4], x[:, 1:4]).any()


def recording() -> tuple[list[int], object]:
    rows: list[int] = []

    def denoise(x: Tensor, modulation: Tensor) -> Tensor:
        rows.append(len(x))
        return x * modulation[:, None]

    return rows, denoise


@pytest.mark.parametrize(("weight", "num_rows"), [(0.0, 2), (1.0, 2), (1.5, 4)])
def test_guidance_extrapolates_and_makes_one_call(weight: float, num_rows: int) -> None:
    """Weight 0 and 1 are the unconditional and the conditional prediction, for half the work."""
    rows, denoise = recording()
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    conditional, unconditional = torch.full((2, 3), 2.0), torch.full((2, 3), 0.5)
    result = classifier_free(denoise, x, conditional, unconditional, weight)  # type: ignore[arg-type]
    torch.testing.assert_close(result, x * (0.5 + weight * 1.5))
    assert rows == [num_rows]


def test_climbing_follows_the_gradient_where_the_step_size_is_not_zero() -> None:
    size = torch.tensor([0.0, 0.1])[None, :, None]
    x = value_guidance(torch.ones(1, 2, 1), lambda x: 2 * x, size, num_steps=2)
    np.testing.assert_allclose(x.flatten(), [1, 1.2**2], rtol=1e-6)


def test_the_posterior_variance_is_that_of_ddpm() -> None:
    level, following = np.array([0, 20, 9, 1]), np.array([0, 13, 8, 0])
    step = step_coefficients(SCHEDULE, level, following, "sample", "ddpm")
    np.testing.assert_allclose(
        posterior_variance(SCHEDULE, level, following), step.c_z**2, atol=1e-15
    )
