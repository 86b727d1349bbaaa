"""Rolling buffers: ladders of noise levels, what training draws, and how a buffer moves on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import support

from hotloop.decoding.rolling import Ladder, LevelMixture, advance

PUSHT_LADDERS = tuple(Ladder(17, 1, *pair, 120) for pair in ((1, 15), (2, 8), (4, 4), (8, 2)))


@st.composite
def ladders(draw: st.DrawFn) -> Ladder:
    num_execute, num_chunks = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    num_past, excess = draw(st.integers(0, 3)), draw(st.integers(0, 5))
    horizon = num_past + num_execute * num_chunks + excess
    return Ladder(horizon, num_past, num_execute, num_chunks, num_chunks * draw(st.integers(1, 20)))


def keys(levels: list[np.ndarray]) -> set[tuple[int, ...]]:
    return {tuple(level.tolist()) for level in levels}


def test_published_ladders() -> None:
    """Examples of the Streaming Diffusion Policy, whose timestep t is our level t + 1."""
    two_chunks = Ladder(horizon=20, num_past=1, num_execute=8, num_chunks=2, num_levels=100)
    np.testing.assert_array_equal(two_chunks.levels(), [50] * 9 + [100] * 11)
    one_chunk = Ladder(horizon=16, num_past=1, num_execute=8, num_chunks=1, num_levels=100)
    np.testing.assert_array_equal(one_chunk.levels(), [100] * 16)


@given(ladders())
def test_chunk_c_starts_at_level_n_times_c_plus_1_over_h(ladder: Ladder) -> None:
    for position, level in enumerate(ladder.levels()):
        chunk = max(position - ladder.num_past, 0) // ladder.num_execute
        chunk = min(chunk, ladder.num_chunks - 1)  # the excess tail stays pure noise
        assert level == ladder.num_levels * (chunk + 1) // ladder.num_chunks


@given(ladders(), st.data())
def test_a_control_step_ends_with_a_clean_chunk_after_exactly_its_calls(
    ladder: Ladder, data: st.DataObject
) -> None:
    num_calls = data.draw(st.integers(1, ladder.levels_per_step))
    vectors = ladder.control_step(num_calls)
    assert len(vectors) == num_calls + 1
    np.testing.assert_array_equal(vectors[0], ladder.levels())
    for level, next_level in pairwise(vectors):
        assert (next_level <= level).all()
        assert level.min() >= 1, "a clean position was given to the network"
    executed = ladder.num_past + ladder.num_execute
    assert (vectors[-1][:executed] == 0).all()
    assert (vectors[-1][executed:] > 0).all()


@given(ladders())
def test_rolling_and_appending_noise_restores_the_ladder(ladder: Ladder) -> None:
    """Levels travel through `advance` like actions: the end of a step is the start of the next."""
    end = torch.from_numpy(ladder.levels(ladder.levels_per_step))[None, :, None]
    past = torch.full((1, ladder.num_past, 1), int(ladder.levels()[0]))
    fresh = torch.full((1, ladder.num_execute, 1), ladder.num_levels)
    restored = advance(end, past, fresh)
    np.testing.assert_array_equal(restored[0, :, 0], ladder.levels())


@given(ladders(), st.data())
def test_every_vector_given_to_the_network_is_one_of_training(
    ladder: Ladder, data: st.DataObject
) -> None:
    num_calls = data.draw(st.integers(1, ladder.levels_per_step))
    assert keys(ladder.control_step(num_calls)[:-1]) <= support([ladder])


@given(ladders())
def test_one_call_per_level_visits_all_of_the_support(ladder: Ladder) -> None:
    """A stride of one is the unstrided sampler."""
    vectors = ladder.control_step(ladder.levels_per_step)
    np.testing.assert_array_equal(
        vectors, [ladder.levels(j) for j in range(ladder.levels_per_step + 1)]
    )
    assert keys(vectors[:-1]) == support([ladder])


def test_calls_that_do_not_divide_the_rung_stay_inside_the_support() -> None:
    vectors = Ladder(17, 1, 8, 2, 120).control_step(7)
    assert len(vectors) == 8
    assert keys(vectors[:-1]) <= support([Ladder(17, 1, 8, 2, 120)])


@pytest.mark.parametrize("num_calls", [0, 61])
def test_a_control_step_takes_between_one_call_and_one_per_level(num_calls: int) -> None:
    with pytest.raises(ValueError, match=f"between 1 and 60 .* got {num_calls}"):
        Ladder(17, 1, 8, 2, 120).control_step(num_calls)


@pytest.mark.parametrize(("num_execute", "num_chunks"), [(8, 3), (17, 1), (0, 2), (8, 0)])
def test_chunks_must_fit_the_window(num_execute: int, num_chunks: int) -> None:
    message = rf"{num_chunks} chunks of {num_execute} actions do not fit the 16 steps .* 17 less 1"
    with pytest.raises(ValueError, match=message):
        Ladder(17, 1, num_execute, num_chunks, 120)


def test_chunks_must_share_the_noise_levels() -> None:
    message = "100 noise levels cannot be shared by 3 chunks; choose num_levels as a multiple of 3"
    with pytest.raises(ValueError, match=message):
        Ladder(16, 1, 5, 3, 100)


def test_the_buffer_moves_on_by_one_chunk() -> None:
    buffer = torch.arange(9.0).view(1, 9, 1)  # two past slots, chunks [2 3], [4 5], [6 7], excess 8
    executed, fresh = torch.tensor([[[20.0], [30.0]]]), torch.tensor([[[0.5], [0.6]]])
    moved = advance(buffer, executed, fresh)
    np.testing.assert_allclose(moved[0, :, 0], [20, 30, 4, 5, 6, 7, 8, 0.5, 0.6])


def draw(mixture: LevelMixture, num_samples: int = 20_000, seed: int = 0) -> np.ndarray:
    return mixture.draw(num_samples, torch.Generator().manual_seed(seed)).numpy()


def kinds(levels: np.ndarray, mixture: LevelMixture) -> tuple[float, float, float]:
    """Shares of constant vectors, vectors on a ladder, and others."""
    constant = (levels == levels[:, :1]).all(axis=1)
    trained = support(mixture.ladders)
    on_ladder = np.array([tuple(row) in trained for row in levels.tolist()])
    on_ladder &= ~constant
    return constant.mean(), on_ladder.mean(), (~constant & ~on_ladder).mean()


def test_each_sample_draws_its_own_kind_with_the_given_shares() -> None:
    mixture = LevelMixture(17, 120, PUSHT_LADDERS, chunkwise=0.6, independent=0.1)
    shares = kinds(draw(mixture), mixture)
    np.testing.assert_allclose(shares, (0.3, 0.6, 0.1), atol=0.015)


@pytest.mark.parametrize(
    ("chunkwise", "independent"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.8, 0.0), (0.5, 0.5)]
)
def test_every_level_is_noisy_and_within_the_schedule(chunkwise: float, independent: float) -> None:
    mixture = LevelMixture(17, 120, PUSHT_LADDERS, chunkwise, independent)
    levels = draw(mixture)
    assert levels.shape == (20_000, 17)
    assert levels.dtype == np.int64
    assert levels.min() == 1
    assert levels.max() == 120


def test_chunkwise_samples_are_uniform_over_ladders_and_then_over_progress() -> None:
    mixture = LevelMixture(17, 120, PUSHT_LADDERS, chunkwise=1.0)
    counts: dict[tuple[int, ...], int] = {}
    for row in draw(mixture, 40_000).tolist():
        counts[tuple(row)] = counts.get(tuple(row), 0) + 1
    assert set(counts) == support(PUSHT_LADDERS)
    for ladder in PUSHT_LADDERS:
        own = np.array([counts[key] for key in support([ladder])])
        assert len(own) == ladder.levels_per_step
        expected = 40_000 / 4 / ladder.levels_per_step
        assert abs(own.sum() - 10_000) < 400
        assert (np.abs(own - expected) < 6 * np.sqrt(expected)).all()


def test_constant_and_independent_samples_use_every_level() -> None:
    constant = draw(LevelMixture(4, 6, chunkwise=0.0))
    np.testing.assert_allclose(np.bincount(constant[:, 0])[1:] / 20_000, 1 / 6, atol=0.015)
    free = draw(LevelMixture(4, 6, independent=1.0))
    np.testing.assert_allclose(np.bincount(free.flatten())[1:] / 80_000, 1 / 6, atol=0.01)
    assert abs(np.corrcoef(free.T) - np.eye(4)).max() < 0.03


def test_the_generator_decides_every_draw() -> None:
    mixture = LevelMixture(17, 120, PUSHT_LADDERS, chunkwise=0.6, independent=0.1)
    state = torch.get_rng_state()
    assert (draw(mixture, 100, seed=3) == draw(mixture, 100, seed=3)).all()
    assert (draw(mixture, 100, seed=3) != draw(mixture, 100, seed=4)).any()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("chunkwise", "independent"), [(-0.1, 0.0), (0.0, -0.1), (0.7, 0.4)])
def test_shares_must_be_probabilities(chunkwise: float, independent: float) -> None:
    with pytest.raises(ValueError, match=f"sum to at most 1, got chunkwise {chunkwise}"):
        LevelMixture(17, 120, PUSHT_LADDERS, chunkwise, independent)


def test_chunkwise_samples_need_a_ladder() -> None:
    with pytest.raises(ValueError, match="a chunk-wise share needs at least one ladder"):
        LevelMixture(17, 120, chunkwise=0.5)
