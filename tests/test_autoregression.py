"""Rollouts and the causal transformer: a cache changes nothing, and nothing looks ahead."""

from __future__ import annotations

import pytest
import torch
from tiny_planner import tiny_planner
from torch import Tensor

from hotloop.decoding.autoregression import rollout, rollout_uncached
from hotloop.policies.networks.causal import Cache, CausalTransformer


def network(max_length: int = 12, num_layers: int = 2) -> CausalTransformer:
    """Random weights, the distance bias included, float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        causal = CausalTransformer(3, 3, max_length, 16, num_layers, num_heads=4).double()
        for parameter in causal.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape)
    return causal.requires_grad_(False)


def tokens(length: int, rows: int = 2, size: int = 3) -> Tensor:
    return torch.randn(rows, length, size, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("known", [1, 2, 5])
def test_a_cached_rollout_equals_an_uncached_one(known: int) -> None:
    causal = network()

    def prefill(new: Tensor) -> tuple[Tensor, Cache]:
        output, cache = causal.prefill(new)
        return output[:, -1], cache

    cached = rollout(prefill, causal.decode, tokens(known), 7)
    assert cached.shape == (2, 7, 3)
    torch.testing.assert_close(
        cached, rollout_uncached(causal, tokens(known), 7), rtol=1e-10, atol=1e-12
    )


def test_each_token_is_looked_at_once() -> None:
    seen = []

    def prefill(known: Tensor) -> tuple[Tensor, int]:
        seen.append(tuple(known.shape))
        return known[:, -1] + 1, 0

    def decode(token: Tensor, cache: int) -> tuple[Tensor, int]:
        seen.append(tuple(token.shape))
        return token + 1, cache + 1

    result = rollout(prefill, decode, torch.zeros(1, 4, 1), 3)
    assert seen == [(1, 4, 1), (1, 1), (1, 1)]
    assert result.flatten().tolist() == [1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_cached_draft_of_a_planner_equals_an_uncached_one(dtype: torch.dtype) -> None:
    drafter = tiny_planner().to(dtype).drafter
    assert drafter is not None
    known = tokens(1, rows=3, size=5).to(dtype)
    cached = rollout(drafter.prefill, drafter.decode, known, 5)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(
        cached, rollout_uncached(drafter, known, 5), rtol=tolerance, atol=tolerance
    )


def test_a_later_token_cannot_change_an_earlier_prediction() -> None:
    causal, sequence = network(), tokens(8)
    before = causal(sequence)
    for position in range(8):
        changed = sequence.clone()
        changed[:, position] += 1
        after = causal(changed)
        assert torch.equal(after[:, :position], before[:, :position])
        assert not torch.isclose(after[:, position], before[:, position]).all()


def test_positions_are_relative() -> None:
    """Where attention reaches back two tokens, it does not matter what stands further back."""
    causal = network(num_layers=1)
    causal.distance_bias[:, 3:] = -torch.inf
    sequence = tokens(10)
    torch.testing.assert_close(causal(sequence)[:, 6:], causal(sequence[:, 4:])[:, 2:])
    assert not torch.isclose(causal(sequence)[:, 5], causal(sequence[:, 4:])[:, 1]).all()


def test_distance_matters() -> None:
    causal = network()
    biased = causal(tokens(5))
    causal.distance_bias.zero_()
    assert not torch.isclose(causal(tokens(5))[:, 1:], biased[:, 1:]).any()


def test_a_sequence_longer_than_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="sequences of 4 tokens, got 5"):
        network(max_length=4)(tokens(5))
    cache = network(max_length=4).prefill(tokens(4))[1]
    with pytest.raises(ValueError, match="sequences of 4 tokens, got 5"):
        network(max_length=4).decode(tokens(1)[:, 0], cache)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of num_heads, got width 10"):
        CausalTransformer(3, 3, 4, width=10, num_heads=4)
