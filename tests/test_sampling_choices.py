"""Sampling choices: each kind of policy has those that mean something for it, and no others."""

from __future__ import annotations

from typing import Any

import pytest
from test_checkpoint import tiny_checkpoint

from hotloop.policies.diffusion.config import StreamingSampling


def test_an_unknown_sampling_choice_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"kind 'sdp' has no sampling choices \['guidance'\]; .*start"
    ):
        tiny_checkpoint().policy({"guidance": 1.2})


@pytest.mark.parametrize(
    ("kind", "choices", "message"),
    [
        ("dp", {"start": "zero"}, r"'dp' has no sampling choices \['start'\]; .*prefix_guidance"),
        ("sdp", {"prefix_guidance": "vjp"}, r"'sdp' has no .*\['prefix_guidance'\]; .*start_key"),
        ("dp", {"calls_per_step": "1"}, r"sampling\.calls_per_step: expected int \| None, got '1'"),
        ("sdp", {"calls_per_step": 0}, "calls_per_step must be at least 1, or null"),
    ],
)
def test_a_choice_that_means_nothing_for_the_kind_is_refused(
    kind: str, choices: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_checkpoint(kind).policy(choices)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"start": "warm"}, r"start must be one of .*'denoise'.*, got 'warm'"),
        ({"start": "zero", "start_calls": 3}, "start_calls 3 has no effect with start 'zero'"),
        ({"start_key": "observation.position"}, "start_key .* has no effect with start 'denoise'"),
        ({"num_execute": 0}, "num_execute must be at least 1, got 0"),
        ({"start_calls": 0}, "start_calls must be at least 1, or null"),
    ],
)
def test_a_choice_without_effect_is_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamingSampling(**choices)
