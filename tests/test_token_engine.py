"""The token engine: prepared passes of fixed shapes decode what a growing cache does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tiny_vla import SPEC, frames, prompt_of, random_blocks, tiny_model

from hotloop.decoding import Observation
from hotloop.decoding.jacobi import ExitRule, jacobi, jacobi_committed
from hotloop.decoding.token_model import DecodedTokens, greedy_tokens
from hotloop.policies.programs.engines.engine import find_obstacle
from hotloop.policies.programs.engines.recording import Record, Step
from hotloop.policies.vla import TokenDecodingConfig, VlaModel, VlaPolicy
from hotloop.policies.vla.graph_decoder import GraphDecoder
from hotloop.policies.vla.graphs import GraphPasses
from hotloop.policies.vla.llama import StaticLlama, prompt_mask, visible_mask
from hotloop.policies.vla.passes import past_shape
from hotloop.policies.vla.session import CachedModel
from hotloop.policies.vla.token_engine import BUCKET, TokenEngine, make_token_engine

CHOICES: tuple[dict[str, object], ...] = (
    {"method": "greedy"},
    {"max_calls": 1},
    {"method": "jacobi", "guess": "previous"},
)
FAMILIES = ("idefics3", "smolvlm", "llava")


def not_recorded(step: Step, device: torch.device) -> Step:
    """In place of a CUDA graph: the step itself, on the same memory, after runs to warm it up."""
    del device
    for _ in range(2):
        step()
    return step


def on_static_tensors(model: VlaModel, record: Record = not_recorded) -> TokenEngine:
    """What ``cuda-graph`` runs, but for the recording."""
    return TokenEngine(model, partial(GraphDecoder, model.host, model.action_values, record=record))


def on_arrays(model: VlaModel) -> TokenEngine:
    """What runtimes of the CPU run, by eager PyTorch, which exports nothing."""
    return make_token_engine(model, "eager")


ENGINES = (on_static_tensors, on_arrays)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("groups", [1, 2])
def test_the_forward_over_fixed_memory_is_the_one_of_transformers(family: str, groups: int) -> None:
    model = tiny_model(family, dtype=torch.float64, heads=4)
    if groups > 1:
        model = grouped(model, groups)
    decoder = model.host.model.get_decoder()
    llama = StaticLlama(decoder)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 9, 32, generator=generator, dtype=torch.float64)
    positions = torch.arange(9).expand(2, -1)
    expected = decoder(inputs_embeds=inputs, position_ids=positions).last_hidden_state
    known = torch.ones(2, 9, dtype=torch.bool)
    whole, everything = llama(inputs, positions, prompt_mask(known, inputs.dtype), [])
    torch.testing.assert_close(whole, expected, rtol=1e-6, atol=1e-6)
    wanted, new = llama(inputs, positions, prompt_mask(known, inputs.dtype), [], num_wanted=4)
    torch.testing.assert_close(wanted, whole[:, 5:], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(new, everything, rtol=1e-9, atol=1e-9)
    mask = prompt_mask(known[:, :5], inputs.dtype)
    _, past = llama(inputs[:, :5], positions[:, :5], mask, [])
    mask = visible_mask(known[:, :5], 4, inputs.dtype)
    later, _ = llama(inputs[:, 5:], positions[:, 5:], mask, past)
    torch.testing.assert_close(later, whole[:, 5:], rtol=1e-9, atol=1e-9)


def grouped(model: VlaModel, groups: int) -> VlaModel:
    """A model of the same sizes whose queries share keys."""
    text = {**model.config.host["text_config"], "num_key_value_heads": 4 // groups}
    config = replace(model.config, host={**model.config.host, "text_config": text})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VlaModel(config).double().eval().requires_grad_(False)


@pytest.mark.parametrize("make_engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_decoder_goes_the_same_way_as_on_a_growing_cache(
    family: str, make_engine: Callable[[VlaModel], TokenEngine]
) -> None:
    """Iterate for iterate, for single rows and padded ones; memory is used again and again."""
    model = tiny_model(family, heads=4)
    engine, num_tokens = make_engine(model), model.action_tokenizer.num_tokens
    for seed in range(4):
        rows = (1, 3)[seed % 2]
        prompt = prompt_of(model, rows, seed)
        begin, guess = model.begin(rows), random_blocks(model, rows, seed)
        found, expected = engine.token_model(prompt), CachedModel(model.host, prompt)
        greedy = greedy_tokens(expected, begin, num_tokens).tokens
        assert torch.equal(greedy_tokens(found, begin, num_tokens).tokens, greedy)
        assert torch.equal(engine.token_model(prompt).greedy().tokens, greedy)
        for decoder in (jacobi, jacobi_committed):
            for rule in (ExitRule(), ExitRule(1), ExitRule(3)):
                one, other = (
                    decoder(token_model, begin, guess, rule, record=True)
                    for token_model in (
                        engine.token_model(prompt),
                        CachedModel(model.host, prompt),
                    )
                )
                assert torch.equal(one.num_calls, other.num_calls)
                assert torch.equal(torch.stack(one.iterates), torch.stack(other.iterates))
                none, committed = torch.zeros(rows, dtype=torch.int64), decoder is jacobi_committed
                recorded = engine.token_model(prompt)
                if seed > 1:
                    recorded.read_prompt()
                check_same(recorded.jacobi(guess, rule, none, committed=committed), other)


def check_same(found: DecodedTokens, expected: DecodedTokens) -> None:
    for name in ("tokens", "num_verified", "num_calls"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def test_any_order_of_feeding_and_forgetting_gives_the_same_logits() -> None:
    model = tiny_model(dtype=torch.float64)
    engine, prompt = on_static_tensors(model), prompt_of(model, 3)
    rng = np.random.default_rng(0)
    for _ in range(10):
        found, expected = engine.token_model(prompt), CachedModel(model.host, prompt)
        for _ in range(8):
            room = model.action_tokenizer.num_tokens - found.num_fed
            if room == 0 or rng.random() < 0.3:
                num = int(rng.integers(0, found.num_fed + 1))
                found.crop(num)
                expected.crop(num)
                continue
            num = 1 if rng.random() < 0.6 else int(rng.integers(1, room + 1))
            tokens = torch.from_numpy(rng.integers(0, 256, (3, num)))
            torch.testing.assert_close(
                found.feed(tokens), expected.feed(tokens), rtol=1e-5, atol=1e-5
            )
            assert found.num_fed == expected.num_fed


@pytest.mark.parametrize("make_engine", ENGINES)
def test_models_that_share_memory_do_not_disturb_each_other(
    make_engine: Callable[[VlaModel], TokenEngine],
) -> None:
    model = tiny_model()
    engine, num_tokens = make_engine(model), model.action_tokenizer.num_tokens
    prompts = [prompt_of(model, 3, seed) for seed in (0, 3)]
    assert prompts[0].ids.shape == prompts[1].ids.shape
    alone = [greedy_tokens(CachedModel(model.host, p), model.begin(3), num_tokens) for p in prompts]
    assert not torch.equal(alone[0].tokens, alone[1].tokens)
    models = [engine.token_model(prompt) for prompt in prompts]
    assert models[0]._passes is models[1]._passes
    tokens = [model.begin(3), model.begin(3)]
    for position in range(num_tokens):
        for index, one in enumerate(models):
            tokens[index] = one.feed(tokens[index])[:, -1:].argmax(dim=-1)
            assert torch.equal(tokens[index][:, 0], alone[index].tokens[:, position])


def test_nothing_grows_and_prompts_of_a_bucket_share_their_memory() -> None:
    model = tiny_model()
    engine = on_static_tensors(model)
    seen = {id(engine.token_model(prompt_of(model, 3, seed))._passes) for seed in range(5)}
    assert len(seen) == 1
    passes = engine.token_model(prompt_of(model, 3))._passes
    assert isinstance(passes, GraphPasses)
    size = BUCKET + model.num_image_tokens + model.state_size + model.action_tokenizer.num_tokens
    assert passes._past.shape == (3, *past_shape(model.host, size))
    place = passes._past.data_ptr()
    for seed in range(3):
        token_model = engine.token_model(prompt_of(model, 3, seed))
        jacobi_committed(token_model, model.begin(3), random_blocks(model, 3, seed))
    assert passes._past.data_ptr() == place


def test_more_tokens_than_a_block_are_refused() -> None:
    model = tiny_model()
    token_model = on_static_tensors(model).token_model(prompt_of(model, 1))
    token_model.feed(torch.zeros(1, 12, dtype=torch.int64))
    with pytest.raises(ValueError, match="prepared for blocks of 12 tokens, and 13 were fed"):
        token_model.feed(torch.zeros(1, 1, dtype=torch.int64))


def policies(model: VlaModel, engine: str, **decoding: object) -> list[VlaPolicy]:
    config = TokenDecodingConfig(num_execute=2, **decoding)  # type: ignore[arg-type]
    made = [VlaPolicy(model, SPEC, config, name) for name in ("eager", engine)]
    for policy in made:
        policy.reset(np.arange(3))
    return made


def test_a_policy_acts_the_same_on_every_engine() -> None:
    """One small model through real runtimes; greedy and exits, so that all four passes run."""
    engines = [name for name in ("onnx", "openvino") if find_obstacle(name) is None]
    if not engines:
        pytest.skip("needs ONNX Runtime or OpenVINO")
    model = tiny_model(layers=1)
    made = []  # kept, so that the second engine need not export anew
    for engine in engines:
        for choice in CHOICES:
            eager, fast = policies(model, engine, **choice)
            for step in (0, 2):
                values = {key: value[:, None] for key, value in frames(model, 3, step).items()}
                observation = Observation(values, np.full(3, step), np.arange(3))
                one, other = (
                    policy.plan(observation, observation.step) for policy in (eager, fast)
                )
                np.testing.assert_array_equal(one.actions, other.actions)
            assert 0 < fast.parity < 1e-3
            made.append(fast)


def test_engines_that_cannot_run_a_policy_say_why() -> None:
    model = tiny_model()
    with pytest.raises(ValueError, match="cached=False recomputes the prompt, which engine 'onnx'"):
        policies(model, "onnx", cached=False)
    with pytest.raises(ValueError, match=r"engine 'compile' runs token policies in float32.*"):
        policies(tiny_model(dtype=torch.float64), "compile")
    text = {**model.config.host["text_config"], "model_type": "mistral"}
    config = replace(model.config, host={**model.config.host, "text_config": text})
    with pytest.raises(ValueError, match=r"type 'llama'.*got 'mistral'.*use engine 'eager'"):
        policies(VlaModel(config), "compile")
