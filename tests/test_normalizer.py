"""Normalisers: what they map onto, and that nothing is lost on the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hotloop.policies.normalizer import Normalizer

EXTENT = np.array([[0.0, -512.0, 3.0], [4.0, 512.0, 3.0], [1.0, 100.0, 3.0], [4.0, 0.0, 3.0]])
every_mode = pytest.mark.parametrize("mode", ["min_max", "z_score", "identity"])


def normalise(normalizer: Normalizer, values: np.ndarray) -> np.ndarray:
    return normalizer(torch.from_numpy(values.astype(np.float32))).numpy()


def test_min_max_maps_the_data_onto_minus_one_to_one() -> None:
    result = normalise(Normalizer.fit(EXTENT, "min_max"), EXTENT)
    np.testing.assert_allclose(result[:, :2].min(axis=0), -1, atol=1e-6)
    np.testing.assert_allclose(result[:, :2].max(axis=0), 1, atol=1e-6)


def test_z_score_gives_zero_mean_and_unit_variance() -> None:
    result = normalise(Normalizer.fit(EXTENT, "z_score"), EXTENT)
    np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(result[:, :2].std(axis=0), 1, atol=1e-6)


def test_identity_changes_nothing() -> None:
    np.testing.assert_array_equal(normalise(Normalizer.fit(EXTENT, "identity"), EXTENT), EXTENT)


@pytest.mark.parametrize("mode", ["min_max", "z_score"])
def test_a_dimension_that_does_not_vary_is_shifted_but_not_scaled(mode: str) -> None:
    """Dividing by a range of about zero would blow up the first value that differs."""
    normalizer = Normalizer.fit(EXTENT, mode)
    assert normalizer.scale[2] == 1
    np.testing.assert_allclose(normalise(normalizer, EXTENT)[:, 2], 0)
    nearly = EXTENT.copy()
    nearly[0, 2] += 2 * np.spacing(np.float32(3))
    assert Normalizer.fit(nearly, mode).scale[2] == 1, "rounding is no variation"
    still = np.column_stack([EXTENT[:, 0], [0, 1e-16, 0, 0]])
    assert Normalizer.fit(still, mode).scale[1] == 1, "nor is what is negligible beside the others"


@pytest.mark.parametrize("mode", ["min_max", "z_score"])
@pytest.mark.parametrize("unit", [1e-9, 4e-5, 1e3, 1e9])
def test_the_unit_of_a_dimension_does_not_matter(mode: str, unit: float) -> None:
    """Actions of a few micrometres per step were taken for constant, and never learnt."""
    values = np.sin(np.arange(50)[:, None] * [0.3, 0.5])
    values[:, 1] += 0.2
    scaled = (values * [1, unit]).astype(np.float32)
    expected = normalise(Normalizer.fit(values, mode), values)
    for data in (scaled, scaled[:, 1:]):
        found = normalise(Normalizer.fit(data, mode), data)
        np.testing.assert_allclose(found, expected[:, -data.shape[1] :], atol=1e-5)


def test_a_constant_dimension_comes_back_as_it_was() -> None:
    for constant in (0.0, 0.3, -1e-7, 1e6):
        values = np.column_stack([np.linspace(-1, 1, 9), np.full(9, constant)])
        normalizer = Normalizer.fit(values, "min_max")
        assert normalise(normalizer, values)[:, 1].tolist() == [0.0] * 9
        back = normalizer.inverse(torch.zeros(1, 2))[0, 1]
        assert float(back) == np.float32(constant)


@every_mode
def test_the_inverse_returns_physical_units(mode: str) -> None:
    normalizer = Normalizer.fit(EXTENT, mode)
    values = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0)) * 100
    torch.testing.assert_close(normalizer.inverse(normalizer(values)), values, rtol=1e-5, atol=1e-4)


def test_statistics_are_taken_in_double_precision() -> None:
    """float32 sums of a million values near 1000 are off by more than their spread."""
    values = np.full((1_000_000, 1), 1000, np.float32)
    values[::2] += 0.25
    normalizer = Normalizer.fit(values, "z_score")
    assert float(normalizer.scale) == pytest.approx(8, rel=1e-6)
    assert float(normalizer.offset) == pytest.approx(-8001, rel=1e-6)


def test_it_is_part_of_the_weights_but_not_of_what_is_trained() -> None:
    normalizer = Normalizer.fit(EXTENT, "min_max")
    assert list(normalizer.parameters()) == []
    copy = Normalizer(3)
    copy.load_state_dict(normalizer.state_dict())
    np.testing.assert_array_equal(normalise(copy, EXTENT), normalise(normalizer, EXTENT))


def test_a_new_normalizer_changes_nothing() -> None:
    np.testing.assert_array_equal(normalise(Normalizer(3), EXTENT), EXTENT)


def test_an_unknown_mode_is_answered_by_the_choices() -> None:
    with pytest.raises(
        ValueError, match="must be 'min_max', 'z_score' or 'identity', got 'minmax'"
    ):
        Normalizer.fit(EXTENT, "minmax")  # type: ignore[arg-type]
