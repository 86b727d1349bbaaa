"""Hosts of transformers: the same numbers as the whole model, and what cannot be a host."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_vla import (
    ACTIONS,
    IMAGE,
    STATE,
    STATE_KEY,
    TEXTS,
    WRIST,
    frames,
    prompt_of,
    random_blocks,
    tiny_model,
)

from hotloop.decoding.jacobi import jacobi
from hotloop.decoding.token_model import greedy_tokens_uncached
from hotloop.policies.vla import TinyHost, VlaConfig, VlaModel, pretrained_vla, tiny_vla
from hotloop.policies.vla.build import vla_of_checkpoint
from hotloop.policies.vla.host import Host, host_from_config
from hotloop.policies.vla.packed import packed_logits
from hotloop.policies.vla.session import CachedModel, block_logits, check_croppable, new_cache


@pytest.mark.parametrize("family", ["idefics3", "smolvlm", "llava"])
@pytest.mark.parametrize("cameras", [(IMAGE,), (IMAGE, WRIST)], ids=["one camera", "two cameras"])
def test_logits_are_the_whole_models_at_the_action_ids(
    family: str, cameras: tuple[str, ...]
) -> None:
    model = tiny_model(family, cameras, dtype=torch.float64)
    host, prompt = model.host, prompt_of(model, 3)
    tokens = torch.cat([model.begin(3), random_blocks(model, 3)], dim=1)
    ids = torch.cat([prompt.ids, tokens + host.first_action_id], dim=1)
    images = prompt.pixel_values.contiguous()
    images = images if family != "llava" else images.flatten(0, 1)
    whole = host.model(
        input_ids=ids,
        pixel_values=images,
        attention_mask=torch.cat([prompt.attended, tokens >= 0], dim=1).long(),
        position_ids=torch.cat(
            [prompt.position_ids, prompt.lengths[:, None] + torch.arange(tokens.shape[1])], dim=1
        ),
    ).logits[:, -tokens.shape[1] :, host.first_action_id :][..., : host.num_action_ids]
    torch.testing.assert_close(block_logits(host, prompt, tokens), whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["idefics3", "llava"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_blocks_get_the_logits_that_they_get_alone(family: str, attention: str) -> None:
    model = tiny_model(family, dtype=torch.float64)
    model.host.model.set_attn_implementation(attention)
    prompt = prompt_of(model, 3)
    blocks = [random_blocks(model, 3, seed) for seed in (0, 1, 2)]
    packed = packed_logits(model.host, prompt, blocks)
    tolerance = 1e-10 if attention == "sdpa" else 1e-4  # eager attention takes float32 softmaxes
    for block, logits in zip(blocks, packed, strict=True):
        fed = torch.cat([model.begin(3), block[:, :-1]], dim=1)
        alone = block_logits(model.host, prompt, fed)
        torch.testing.assert_close(logits, alone, rtol=0, atol=tolerance)


def test_every_part_of_the_observation_changes_the_logits() -> None:
    model = tiny_model(cameras=(IMAGE, WRIST), dtype=torch.float64)
    first, other = frames(model, 2, seed=0), frames(model, 2, seed=1)
    before = block_logits(model.host, model.prompt(first), model.begin(2))
    for key in first:
        after = block_logits(model.host, model.prompt({**first, key: other[key]}), model.begin(2))
        assert not torch.allclose(before, after), key


@pytest.mark.parametrize("family", ["idefics3", "smolvlm"])
def test_pictures_become_the_hosts_own_tokens_and_none_is_taken_for_padding(family: str) -> None:
    """transformers leaves out a picture whose normalised values are all zero."""
    model = tiny_model(family, (IMAGE, WRIST))
    prompt = prompt_of(model, 2)
    where = (prompt.ids == model.host.image_token_id).flatten()
    embeddings = model.host.embed(prompt.ids, prompt.pixel_values).flatten(0, 1)
    features = model.host.model.get_image_features(prompt.pixel_values.contiguous())
    assert torch.equal(embeddings[where], torch.cat(list(features.pooler_output)))
    grey = model.host.embed(prompt.ids, torch.zeros_like(prompt.pixel_values))
    assert grey.isfinite().all()


def test_float_pictures_of_whole_numbers_are_bytes() -> None:
    model = tiny_model()
    values = frames(model, 1)
    # Of one row, which PyTorch may take for memory of any order.
    as_floats = {key: value[0].astype("float32")[None] for key, value in values.items()}
    one, other = model.prompt(values), model.prompt(as_floats)
    assert torch.equal(one.pixel_values, other.pixel_values)
    assert torch.equal(one.ids, other.ids)
    assert one.pixel_values.abs().max() <= 1
    for key, value in values.items():
        np.testing.assert_array_equal(as_floats[key], value)  # nothing is written to what was given


def tiny_config(family: str = "idefics3", **sizes: int) -> dict[str, Any]:
    return TinyHost(family, image_size=16, patch_size=4, **sizes).config(1000)


def test_a_vocabulary_without_room_for_the_actions_is_refused() -> None:
    host_from_config(tiny_config(), first_action_id=743, num_action_ids=256)
    for first_action_id in (744, -1):
        with pytest.raises(ValueError, match=f"1000 ids has no room for 256.* {first_action_id} "):
            host_from_config(tiny_config(), first_action_id, 256)


@pytest.mark.parametrize("family", ["paligemma", "qwen2_5_vl", "llama"])
def test_other_families_are_refused(family: str) -> None:
    with pytest.raises(ValueError, match=rf"a host must be one of \['idefics3'.* got '{family}'"):
        host_from_config({"model_type": family}, 0, 256)
    with pytest.raises(ValueError, match=f"got '{family}'"):
        TinyHost(family).config(1000)


@pytest.mark.parametrize(
    ("family", "reason"),
    [("qwen2_5_vl", "positions of pictures on several axes"), ("paligemma", "both directions")],
)
def test_a_refused_family_says_why_before_its_weights_are_read(
    tmp_path: Path, family: str, reason: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    with pytest.raises(ValueError, match=f"got '{family}': it .*{reason}"):
        pretrained_vla(tmp_path, 4, ACTIONS, (IMAGE,))
    with pytest.raises(ValueError, match=r"policy.pretrained=FOLDER; a tiny one is one of"):
        TinyHost("openvla").config(1000)


def test_a_sliding_window_cache_is_refused_and_the_uncached_path_works() -> None:
    model = tiny_model("llava", dtype=torch.float64)
    text = {**model.config.host["text_config"], "model_type": "mistral", "sliding_window": 8}
    config = replace(model.config, host={**model.config.host, "text_config": text})
    sliding = VlaModel(config).double()
    prompt = prompt_of(sliding, 2)
    with pytest.raises(ValueError, match=r"DynamicSlidingWindowLayer.*cached=False"):
        sliding.token_model(prompt)
    begin, guess = sliding.begin(2), random_blocks(sliding, 2)

    def forward(tokens: torch.Tensor) -> torch.Tensor:
        return block_logits(sliding.host, prompt, tokens)

    decoded = jacobi(sliding.token_model(prompt, cached=False), begin, guess)
    assert torch.equal(decoded.tokens, greedy_tokens_uncached(forward, begin, guess.shape[1]))


def test_a_static_cache_is_refused() -> None:
    from transformers import StaticCache

    model = tiny_model()
    cache = StaticCache(config=model.host.text_config, max_cache_len=64)
    with pytest.raises(ValueError, match=r"StaticCache.*cannot be cropped"):
        CachedModel(model.host, prompt_of(model, 1), cache)
    check_croppable(new_cache(model.host))


def test_the_longest_prompt_must_fit_the_context() -> None:
    with pytest.raises(ValueError, match=r"take up to 51 tokens, the host's context is 50"):
        tiny_vla(
            TinyHost(image_size=16, patch_size=4, context=50), TEXTS, 4, ACTIONS, (IMAGE,),
            STATE_KEY, STATE,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cameras": ()}, "at least one camera key"),
        ({"state": None}, "state_key and state must be given together"),
        ({"max_text_tokens": 0}, "max_text_tokens must be at least 1"),
        ({"first_action_id": 100}, "the text tokenizer uses ids up to .* begins at 100"),
        ({"text_tokenizer": {"version": "1.0"}}, "not a text tokenizer: expected a key 'model'"),
        ({"num_actions": 0}, "at least 1 action"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    change: dict[str, Any], message: str
) -> None:
    config = tiny_model().config
    with pytest.raises(ValueError, match=message):
        VlaModel(replace(config, **change))


def test_a_checkpoint_of_other_observations_or_actions_is_refused() -> None:
    model = tiny_model()
    shapes = model.observation_shapes
    assert vla_of_checkpoint(model.config, shapes, 3).observation_shapes == shapes
    with pytest.raises(ValueError, match="action tokenizer has 3 dimensions, the action spec 7"):
        vla_of_checkpoint(model.config, shapes, 7)
    with pytest.raises(ValueError, match="host and tokenizers read"):
        vla_of_checkpoint(model.config, {**shapes, IMAGE: (64, 64, 3)}, 3)


def test_the_configuration_survives_json() -> None:
    model = tiny_model()
    text = json.dumps(model.config_dict())
    stored = json.loads(text)
    assert stored["actions"]["low"] == list(ACTIONS.low)
    rebuilt = VlaModel(replace(model.config, host=stored["host"]))
    rebuilt.load_state_dict(model.state_dict())
    prompt = prompt_of(model, 2)
    rebuilt.eval().requires_grad_(False)
    one, other = (block_logits(m.host, prompt, m.begin(2)) for m in (model, rebuilt))
    assert torch.equal(one, other)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the Hugging Face hub has them, with a tied host and a tokenizer."""
    import transformers

    folder = tmp_path_factory.mktemp("host")
    config = tiny_config(layers=1, width=16, vision_width=16, vision_layers=1, heads=2)
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = True
    config["text_config"]["vocab_size"] = 300
    host = host_from_config(config, 0, 8)
    host.model.tie_weights()
    host.model.save_pretrained(folder)
    model = tiny_model()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=model._tokenizer, pad_token="<pad>"
    )
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3]}))
    return folder


def test_a_pretrained_host_is_extended_by_the_action_block(pretrained: Path) -> None:
    model = pretrained_vla(pretrained, 4, ACTIONS, (IMAGE,), STATE_KEY, STATE)
    assert model.config.first_action_id == 300
    assert model.config.image_mean == (0.1, 0.2, 0.3)
    assert model.host.model.get_input_embeddings().num_embeddings >= 300 + 257
    names = model.state_dict()
    assert names["host.model.lm_head.weight"].data_ptr() not in {
        value.data_ptr() for name, value in names.items() if "embed_tokens" in name
    }, "input and output embeddings are two tensors"
    prompt = prompt_of(model, 2)
    assert block_logits(model.host, prompt, model.begin(2)).shape == (2, 1, 256)
    rebuilt = vla_of_checkpoint(VlaConfig(**{**vars(model.config)}), model.observation_shapes, 3)
    rebuilt.load_state_dict(model.state_dict())


def test_a_pretrained_host_without_room_is_refused(pretrained: Path) -> None:
    with pytest.raises(ValueError, match="vocabulary of 300 ids has no room for 256 action"):
        pretrained_vla(pretrained, 4, ACTIONS, (IMAGE,), first_action_id=44)


def test_a_host_knows_its_block() -> None:
    host = tiny_model().host
    assert isinstance(host, Host)
    assert host.num_action_ids == 256
