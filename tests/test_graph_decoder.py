"""Decoders whose forwards are recorded with argmax and exit: the same tokens, nothing read back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from second_device import DEVICE, SecondDevice
from test_token_engine import FAMILIES, check_same, not_recorded, on_arrays, on_static_tensors
from tiny_vla import SPEC, frames, prompt_of, random_blocks, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from hotloop.decoding import Observation
from hotloop.decoding.jacobi import ExitRule, Progress, Stop, advanced, jacobi, jacobi_committed
from hotloop.decoding.token_model import greedy_tokens
from hotloop.policies.place import moved
from hotloop.policies.programs.engines.recording import Step
from hotloop.policies.vla import TokenDecodingConfig, VlaModel, VlaPolicy, policy
from hotloop.policies.vla.graph_decoder import GraphDecoder
from hotloop.policies.vla.session import CachedModel
from hotloop.policies.vla.token_engine import TokenEngine

NONE, NEEDED = torch.zeros(3, dtype=torch.int64), torch.tensor([0, 3, 7])


class NothingReadBack(TorchDispatchMode):
    """Refuses what a CUDA graph cannot hold: a number that goes to Python, a size that depends."""

    REFUSED = (
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.equal.default,
        torch.ops.aten.nonzero.default,
        torch.ops.aten.masked_select.default,
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in self.REFUSED, f"{func} waits for the GPU"
        return func(*args, **(kwargs or {}))


def watched(step: Step, device: torch.device) -> Step:
    """The same, with nothing read back."""

    def run() -> None:
        with NothingReadBack():
            step()

    return not_recorded(run, device)


def watched_on_static_tensors(model: VlaModel) -> TokenEngine:
    return on_static_tensors(model, watched)


@pytest.mark.parametrize("make_engine", [watched_on_static_tensors, on_arrays])
@pytest.mark.parametrize("family", FAMILIES)
def test_decoders_on_memory_read_nothing_back_and_know_every_exit(
    family: str, make_engine: Callable[[VlaModel], TokenEngine]
) -> None:
    model = tiny_model(family, layers=1)
    engine, values = make_engine(model), model.action_values
    prompt, guess, begin = prompt_of(model, 3), random_blocks(model, 3), model.begin(3)
    greedy = greedy_tokens(CachedModel(model.host, prompt), begin, guess.shape[1])
    check_same(engine.token_model(prompt).greedy(), greedy)
    for rule, needed in ((ExitRule(), NONE), (ExitRule(2), NEEDED), (ExitRule(5, 0.5), NONE)):
        for decoder in (jacobi, jacobi_committed):
            expected = decoder(
                CachedModel(model.host, prompt),
                begin,
                guess,
                rule,
                decode=lambda tokens: values[tokens],
                min_verified=needed,
            )
            found = engine.token_model(prompt).jacobi(
                guess, rule, needed, committed=decoder is jacobi_committed
            )
            check_same(found, expected)


def test_arrays_advance_as_tensors_do() -> None:
    rng, values = np.random.default_rng(0), torch.tensor([-1.0, 1.0], dtype=torch.float64)
    for _ in range(300):
        blocks = torch.from_numpy(rng.integers(0, 2, (2, 4, 5)))
        seen, calls, needed = torch.from_numpy(rng.integers(0, 7, (3, 4)))
        before = Progress(blocks[0], seen, calls, torch.from_numpy(rng.random(4) < 0.3))
        rule = ExitRule(int(rng.integers(1, 5)), float(rng.choice([0, 2])))
        confirming = int(rng.integers(3, 6))
        tensors = Stop.of(rule, blocks[0], values.__getitem__, needed)
        one = advanced(before, blocks[1], tensors, confirming, values.__getitem__)
        arrays = Stop(*rule.numbers(5), needed.numpy())
        given = Progress(*(one.numpy() for one in vars(before).values()))
        measure = values.numpy().__getitem__
        other = advanced(given, blocks[1].numpy(), arrays, confirming, measure)
        for name, tensor in vars(one).items():
            np.testing.assert_array_equal(getattr(other, name), tensor.numpy(), strict=True)


def test_the_host_is_told_as_seldom_as_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once between two forwards, and never where their number is known."""
    told: list[bool] = []
    hear = GraphDecoder._hear_whether_finished

    def counted(decoder: GraphDecoder) -> bool:
        told.append(hear(decoder))
        return told[-1]

    monkeypatch.setattr(GraphDecoder, "_hear_whether_finished", counted)
    model = tiny_model(layers=1)
    engine, prompt, guess = on_static_tensors(model), prompt_of(model, 3), random_blocks(model, 3)
    for rule, expected in ((ExitRule(1), 0), (ExitRule(3), 2)):
        told.clear()
        engine.token_model(prompt).jacobi(guess, rule, NONE, committed=True)
        assert told == [False] * expected
    told.clear()
    engine.token_model(prompt).greedy()
    assert not told


def test_a_number_that_is_read_back_is_noticed() -> None:
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NothingReadBack():
        bool(torch.ones(3).all())


def test_weights_elsewhere_are_decoded_there() -> None:
    """Nothing that a recorded step makes or takes lies on the CPU."""
    model = tiny_model(layers=1)
    engine, prompt, guess = on_static_tensors(model), prompt_of(model, 3), random_blocks(model, 3)
    expected = engine.token_model(prompt).jacobi(guess, ExitRule(3), NONE, committed=True)
    greedy = engine.token_model(prompt).greedy()
    with SecondDevice():
        there = moved(model, DEVICE)
        engine, prompt = on_static_tensors(there), prompt_of(there, 3)
        found = engine.token_model(prompt).jacobi(
            guess.to(DEVICE), ExitRule(3), NONE, committed=True
        )
        assert torch.equal(found.tokens.cpu(), expected.tokens)
        assert torch.equal(engine.token_model(prompt).greedy().tokens.cpu(), greedy.tokens)


CHOICES: tuple[dict[str, Any], ...] = (
    {"method": "greedy"},
    {"max_calls": 1},
    {"method": "jacobi", "guess": "previous", "fused": False, "max_move": 0.3},
    {"guess": "previous", "max_calls": 1, "unverified": "hold"},
)


@pytest.mark.parametrize("choice", CHOICES)
def test_a_policy_decodes_by_recorded_steps(
    choice: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(layers=1)
    engine = on_static_tensors(model)
    monkeypatch.setattr(policy, "make_token_engine", lambda *_: engine)
    config = TokenDecodingConfig(num_execute=2, **choice)
    recorded = VlaPolicy(model, SPEC, config, "cuda-graph")
    monkeypatch.undo()
    eager = VlaPolicy(model, SPEC, config)
    for one in (recorded, eager):
        one.reset(np.arange(3))
    for step in (0, 2):
        values = {key: value[:, None] for key, value in frames(model, 3, step).items()}
        observation = Observation(values, np.full(3, step), np.arange(3))
        for one in (recorded, eager):
            one.plan(observation, observation.step + 1)
        assert recorded.decoded is not None and eager.decoded is not None
        check_same(recorded.decoded, eager.decoded)
