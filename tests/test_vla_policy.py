"""The vision-language policy: the contract, its decoders, and how little it takes on trust."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_vla import IMAGE, SPEC, STATE_KEY, TEXTS, WRIST, frames, tiny_model

from hotloop.decoding import ActionSpec, Executor, Observation
from hotloop.decoding.conformance import PolicyConformance
from hotloop.decoding.instruction import INSTRUCTION_KEY, encode_instruction
from hotloop.policies.vla import TokenDecodingConfig, VlaModel, VlaPolicy

DECODINGS = {
    "greedy": TokenDecodingConfig(3, "greedy"),
    "jacobi": TokenDecodingConfig(3, "jacobi", guess="previous"),
    "committed": TokenDecodingConfig(3, "committed", guess="repeat", fused=False),
    "early exit": TokenDecodingConfig(3, "committed", max_calls=2),
    "adaptive exit": TokenDecodingConfig(3, "jacobi", guess="previous", max_move=0.5),
    "hold": TokenDecodingConfig(3, "committed", max_calls=1, unverified="hold"),
    "uncached": TokenDecodingConfig(3, "jacobi", max_calls=4, cached=False),
}


@pytest.fixture(scope="module")
def model() -> VlaModel:
    return tiny_model(cameras=(IMAGE, WRIST), dtype=torch.float64)


class TestVlaPolicy(PolicyConformance):
    @pytest.fixture(params=DECODINGS.values(), ids=DECODINGS)
    def policy(self, request: pytest.FixtureRequest, model: VlaModel) -> VlaPolicy:
        return VlaPolicy(model, SPEC, request.param)

    def frame(
        self, policy: VlaPolicy, scenes: np.ndarray, steps: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The instruction is text; float32 as from an executor."""
        drawn = super().frame(policy, scenes, steps)
        texts = [TEXTS[scene % len(TEXTS)] for scene in scenes]
        instructions = np.stack([encode_instruction(text) for text in texts])
        return drawn | {INSTRUCTION_KEY: instructions.astype(np.float32)}


def observe(model: VlaModel, num_rows: int, step: int = 0, seed: int = 0) -> Observation:
    values = {key: value[:, None] for key, value in frames(model, num_rows, seed).items()}
    return Observation(values, np.full(num_rows, step), np.arange(num_rows))


def planned(policy: VlaPolicy, num_rows: int = 3) -> np.ndarray:
    policy.reset(np.arange(num_rows))
    observation = observe(policy.model, num_rows)
    return policy.plan(observation, observation.step).actions


def test_every_decoder_without_an_exit_plans_what_greedy_decoding_plans(model: VlaModel) -> None:
    expected = planned(VlaPolicy(model, SPEC, DECODINGS["greedy"]))
    for name in ("jacobi", "committed"):
        np.testing.assert_array_equal(planned(VlaPolicy(model, SPEC, DECODINGS[name])), expected)


def test_a_decoder_of_one_forward_keeps_no_cache_and_plans_the_same(model: VlaModel) -> None:
    one = TokenDecodingConfig(3, "jacobi", max_calls=1)
    assert not one.needs_cache
    others = {"fused": False}, {"unverified": "hold"}, {"max_calls": 2}, {"method": "committed"}
    needs = [replace(one, **choices).needs_cache for choices in others]
    assert needs == [True, True, True, False]
    expected = planned(VlaPolicy(model, SPEC, replace(one, fused=False)))
    np.testing.assert_array_equal(planned(VlaPolicy(model, SPEC, one)), expected)


@pytest.mark.parametrize(("guess", "num_calls"), [("previous", 1), ("random", 2)])
def test_the_previous_chunk_is_a_good_guess_when_nothing_has_changed(
    model: VlaModel, guess: str, num_calls: int
) -> None:
    """Planning again for the same step starts from the very chunk that must come out."""
    policy = VlaPolicy(model, SPEC, TokenDecodingConfig(3, "jacobi", guess))
    policy.reset(np.arange(2))
    observation = observe(model, 2)
    first = policy.plan(observation, observation.step)
    second = policy.plan(observation, observation.step)
    np.testing.assert_array_equal(first.actions, second.actions)
    assert policy.decoded is not None
    forwards = policy.decoded.num_calls
    assert (forwards == 1).all() if num_calls == 1 else (forwards >= num_calls).all()


def test_an_episode_starts_without_the_last_ones_chunk(model: VlaModel) -> None:
    policy = VlaPolicy(model, SPEC, TokenDecodingConfig(3, "jacobi", "previous"))
    observation = observe(model, 1)
    policy.reset(np.array([5]))
    policy.plan(observation, observation.step)
    policy.reset(np.array([5]), np.array([0]))
    policy.plan(observation, observation.step)
    assert policy.decoded is not None
    assert policy.decoded.num_calls[0] > 1


def test_unverified_actions_are_executed_or_held_back_as_chosen(model: VlaModel) -> None:
    observation = observe(model, 3)
    early = {"method": "committed", "max_calls": 1}
    plans = {}
    for unverified in ("execute", "hold"):
        policy = VlaPolicy(model, SPEC, TokenDecodingConfig(4, unverified=unverified, **early))
        policy.reset(np.arange(3))
        plans[unverified] = policy.plan(observation, observation.step)
        assert policy.decoded is not None
        if unverified == "hold":
            verified = policy.decoded.num_verified.numpy()
            np.testing.assert_array_equal(plans["hold"].num_ready, verified // 3)
    assert plans["execute"].valid.all()
    assert (plans["hold"].num_ready >= 1).all(), "the executor needs one action"
    assert (plans["hold"].num_ready < 4).all()
    exact = planned(VlaPolicy(model, SPEC, DECODINGS["greedy"]))
    ready = plans["hold"].ready
    np.testing.assert_array_equal(plans["hold"].actions[ready], exact[ready])


def test_the_executor_replans_where_verified_actions_end(model: VlaModel) -> None:
    config = TokenDecodingConfig(4, "committed", max_calls=1, unverified="hold")
    executors = {
        name: Executor(VlaPolicy(model, SPEC, one))
        for name, one in (("hold", config), ("greedy", TokenDecodingConfig(4, "greedy")))
    }
    for executor in executors.values():
        executor.reset([0])
        for _ in range(8):
            executor.act(frames(model, 1))
    assert executors["greedy"].num_plans == 2
    assert executors["hold"].num_plans > 2


def test_actions_stay_inside_the_spec_when_quantiles_reach_further(model: VlaModel) -> None:
    narrow = ActionSpec(SPEC.names, (-0.1,) * 3, (0.1,) * 3, dt=0.1)
    actions = planned(VlaPolicy(model, narrow, DECODINGS["greedy"]))
    narrow.check(actions)
    assert (np.abs(actions) == 0.1).any()


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        (
            IMAGE,
            np.zeros((1, 1, 20, 16, 3)),
            r"'observation.images.front': images must have shape ",
        ),
        (
            IMAGE,
            np.full((1, 1, 16, 16, 3), 0.5),
            "whole numbers from 0 to 255, found values from 0",
        ),
        (IMAGE, np.full((1, 1, 16, 16, 3), 256.0), "found values from 256.0 to 256.0"),
        (IMAGE, np.full((1, 1, 16, 16, 3), -1.0), "found values from -1.0"),
        (STATE_KEY, np.full((1, 1, 2), np.nan), "must be finite"),
        (INSTRUCTION_KEY, np.zeros((1, 1, 128)), "holds no instruction"),
        (INSTRUCTION_KEY, encode_instruction("Ж" * 60)[None, None], "reads at most 32: 'Ж"),
    ],
)
def test_observations_that_it_cannot_read_are_refused(
    model: VlaModel, key: str, values: np.ndarray, message: str
) -> None:
    policy = VlaPolicy(model, SPEC, DECODINGS["greedy"])
    policy.reset(np.array([0]))
    observation = observe(model, 1)
    observation = Observation(
        {**observation.frames, key: values}, observation.step, observation.rows
    )
    with pytest.raises(ValueError, match=message):
        policy.plan(observation, observation.step)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"method": "beam"}, "method must be one of .*'jacobi'.* got 'beam'"),
        ({"guess": "zeros"}, "guess must be one of .* got 'zeros'"),
        ({"unverified": "drop"}, "unverified must be one of .* got 'drop'"),
        ({"max_calls": -1}, r"max_calls \(sigma\) must be at least 1"),
        ({"method": "greedy", "max_calls": 2}, "greedy decoding has no early exit"),
        ({"method": "greedy", "max_move": 0.0}, "greedy decoding has no early exit"),
    ],
)
def test_unknown_choices_are_refused(choices: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenDecodingConfig(**choices)


@pytest.mark.parametrize("num_execute", [0, 5])
def test_no_more_is_executed_than_a_chunk_holds(model: VlaModel, num_execute: int) -> None:
    with pytest.raises(
        ValueError, match=f"num_execute must be between 1 and 4.* got {num_execute}"
    ):
        VlaPolicy(model, SPEC, TokenDecodingConfig(num_execute))


def test_the_spec_must_have_the_models_dimensions(model: VlaModel) -> None:
    two = ActionSpec(("x", "y"), (0.0, 0.0), (1.0, 1.0), dt=0.1)
    with pytest.raises(ValueError, match="actions have 3 dimensions, the action spec's 2"):
        VlaPolicy(model, two, TokenDecodingConfig(3))
