"""Action tokens: OpenVLA's bins, by its published rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.policies.vla import BinStatistics, UniformBins

STATISTICS = BinStatistics((-2.0, 0.0, 0.0), (2.0, 0.5, 1.0), (True, True, False))


def openvla_ids(normalised: np.ndarray, vocabulary_size: int = 32_000) -> np.ndarray:
    """Token ids of OpenVLA: V minus the number of edges at or below the value."""
    edges = np.linspace(-1, 1, 256)
    return vocabulary_size - (np.clip(normalised, -1, 1)[..., None] >= edges).sum(axis=-1)


def one_dimension(values: np.ndarray) -> np.ndarray:
    bins = UniformBins(BinStatistics((-1.0,), (1.0,), (False,)))
    return bins.encode(values.reshape(-1, 1, 1)).tokens[:, 0]


@given(st.lists(st.floats(-1.5, 1.5), min_size=1, max_size=20))
def test_ids_are_those_of_openvla_up_to_where_the_block_begins(values: list[float]) -> None:
    array = np.array(values)
    np.testing.assert_array_equal(one_dimension(array) + 31_744, openvla_ids(array))


def test_the_block_has_256_ids_of_which_the_lowest_two_decode_alike() -> None:
    assert one_dimension(np.array([-1.0, 1.0])).tolist() == [255, 0]
    bins = UniformBins(BinStatistics((-1.0,), (1.0,), (False,)))
    decoded = bins.normalised(np.arange(256))
    assert decoded[0] == decoded[1] == pytest.approx(1 - 1 / 255)
    assert decoded[255] == pytest.approx(-1 + 1 / 255)
    assert (np.diff(decoded[1:]) < 0).all()


@given(st.integers(0, 2**32 - 1))
def test_a_round_trip_moves_no_value_by_more_than_half_a_bin(seed: int) -> None:
    rng, bins = np.random.default_rng(seed), UniformBins(STATISTICS, num_actions=5)
    actions = rng.uniform(STATISTICS.low, STATISTICS.high, (4, 5, 3))
    tokens, num_clipped = bins.encode(actions)
    half_a_bin = np.array([4.0, 0.5, 2.0]) / 255 / 2
    assert tokens.shape == (4, 15)
    assert num_clipped == 0
    assert (np.abs(bins.decode(tokens) - actions) <= half_a_bin + 1e-7).all()


def test_decoded_actions_keep_their_tokens() -> None:
    bins = UniformBins(STATISTICS, num_actions=2)
    tokens = np.random.default_rng(0).integers(1, 256, (50, 6))
    np.testing.assert_array_equal(bins.encode(bins.decode(tokens)).tokens, tokens)


def test_a_chunk_is_laid_out_action_by_action() -> None:
    bins = UniformBins(STATISTICS, num_actions=2)
    chunk = np.array([[2.0, 0.5, 1.0], [-2.0, 0.0, 0.0]])
    # The top edge is id 0, but OpenVLA's 1e-8 keeps the upper quantile just below it.
    assert bins.encode(chunk).tokens.tolist() == [1, 1, 0, 255, 255, 128]


def test_the_gripper_is_taken_as_it_is() -> None:
    """Its quantiles are 0 and 1, and its values are not stretched to -1 and 1 all the same."""
    bins = UniformBins(STATISTICS)
    decoded = bins.decode(bins.encode(np.array([[0.0, 0.25, 0.0]])).tokens)
    assert decoded[0, 2] == pytest.approx(0, abs=1 / 255)


def test_values_outside_the_quantiles_are_clipped_and_counted() -> None:
    bins = UniformBins(STATISTICS)
    actions = np.array([[[9.0, 0.2, 0.5]], [[0.0, -0.3, 1.7]], [[0.0, 0.2, 0.5]]])
    tokens, num_clipped = bins.encode(actions)
    assert num_clipped == 3
    np.testing.assert_allclose(bins.decode(tokens)[0, 0, 0], 2, atol=4 / 255)
    np.testing.assert_allclose(bins.decode(tokens)[1, 0, 1:], (0, 1), atol=2 / 255)


def test_a_constant_dimension_stays_constant() -> None:
    bins = UniformBins(BinStatistics((0.3,), (0.3,), (True,)))
    np.testing.assert_allclose(bins.decode(bins.encode(np.array([[0.3]])).tokens), 0.3, atol=1e-6)


def test_verified_tokens_determine_whole_actions() -> None:
    bins = UniformBins(STATISTICS, num_actions=4)
    assert bins.num_actions(np.array([0, 2, 3, 5, 6, 12])).tolist() == [0, 0, 1, 1, 2, 4]
    assert bins.tokens_for(2) == 6


def test_quantiles_are_fitted_per_dimension() -> None:
    values = np.random.default_rng(0).uniform([-1, 5], [1, 6], (20_000, 2))
    fitted = BinStatistics.fit(values, scaled=(True, False))
    np.testing.assert_allclose(fitted.low, [-0.98, 5.01], atol=0.01)
    np.testing.assert_allclose(fitted.high, [0.98, 5.99], atol=0.01)
    assert fitted.scaled == (True, False)


@pytest.mark.parametrize(
    ("low", "high", "scaled", "message"),
    [
        ((0.0,), (1.0, 2.0), (True,), "as many low as high quantiles and flags"),
        ((), (), (), "at least one"),
        ((2.0,), (1.0,), (True,), "dimension 0: the 1 % quantile must not be above"),
        ((float("nan"),), (1.0,), (True,), "must not be above"),
        ((0.0,), (float("inf"),), (True,), "both finite"),
    ],
)
def test_statistics_that_scale_nothing_are_refused(
    low: tuple[float, ...], high: tuple[float, ...], scaled: tuple[bool, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        BinStatistics(low, high, scaled)


def test_chunks_of_another_shape_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"chunks of 2 actions of 3 dimensions, got shape \(3, 2\)"
    ):
        UniformBins(STATISTICS, 2).encode(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="at least 1 action, got 0"):
        UniformBins(STATISTICS, 0)


def test_values_that_are_not_finite_have_no_token() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        UniformBins(STATISTICS).encode(np.array([[0.0, np.nan, 0.0]]))
