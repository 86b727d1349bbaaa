"""New vision-language models: tiny ones from sizes, large ones from pretrained weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .host import HALF, TinyHost, check_family
from .model import VlaConfig, VlaModel
from .openvla.folder import is_openvla
from .openvla.load import MAX_TEXT_TOKENS, load_openvla
from .text import import_transformers, load_text_tokenizer, train_text_tokenizer
from .tokenizer import NUM_BINS, BinStatistics

NUM_BLOCK_IDS = NUM_BINS + 1  # the actions and the token that opens a block of them


def tiny_vla(
    sizes: TinyHost,
    texts: Sequence[str],
    num_actions: int,
    actions: BinStatistics,
    cameras: tuple[str, ...],
    state_key: str = "",
    state: BinStatistics | None = None,
) -> VlaModel:
    """Build a model with random weights and a text vocabulary learnt from `texts`.

    Args:
        sizes: Size of the host.
        texts: Instructions of the training data.
        num_actions: Actions per chunk m.
        actions: Quantiles of the actions.
        cameras: Observation keys of the images.
        state_key: Observation key of the proprioception; empty for none.
        state: Its quantiles.
    """
    text_tokenizer = train_text_tokenizer(texts)
    tokenizer = load_text_tokenizer(text_tokenizer)
    first_action_id = tokenizer.get_vocab_size()
    longest = max(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)
    config = VlaConfig(
        host=sizes.config(first_action_id + NUM_BLOCK_IDS),
        text_tokenizer=text_tokenizer,
        num_actions=num_actions,
        actions=actions,
        cameras=cameras,
        state_key=state_key,
        state=state,
        # New sentences fall apart into more pieces than those that the vocabulary was learnt from.
        max_text_tokens=max(2 * longest, 32),
        first_action_id=first_action_id,
    )
    return VlaModel(config)


def pretrained_vla(
    name_or_path: str | Path,
    num_actions: int,
    actions: BinStatistics,
    cameras: tuple[str, ...],
    state_key: str = "",
    state: BinStatistics | None = None,
    *,
    max_text_tokens: int = 64,
    first_action_id: int | None = None,
) -> VlaModel:
    """Load a host with its weights, by name on the Hugging Face hub or by local path.

    Args:
        name_or_path: What `AutoModelForImageTextToText` accepts, or a local folder of OpenVLA's,
            whose action tokens and question are kept and whose own statistics are not.
        num_actions: Actions per chunk m.
        actions: Quantiles of the actions.
        cameras: Observation keys of the images.
        state_key: Observation key of the proprioception; empty for none.
        state: Its quantiles.
        max_text_tokens: Longest instruction, in tokens.
        first_action_id: Where the action block begins, in ids that the model has no other use
            for; by default the vocabulary is extended.

    Raises:
        ValueError: If the host's family is unknown, or it has no room for the action block.
    """
    transformers = import_transformers()
    path = str(name_or_path)
    if is_openvla(Path(path)):
        longest = max(max_text_tokens, MAX_TEXT_TOKENS)
        return load_openvla(Path(path), num_actions, actions, cameras, state_key, state, longest)
    check_family(str(transformers.PreTrainedConfig.get_config_dict(path)[0].get("model_type")))
    model = transformers.AutoModelForImageTextToText.from_pretrained(path)
    if first_action_id is None:
        first_action_id = int(model.get_input_embeddings().num_embeddings)
        model.resize_token_embeddings(first_action_id + NUM_BLOCK_IDS, pad_to_multiple_of=64)
    _untie(model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    found, _ = transformers.BaseImageProcessor.get_image_processor_dict(path)
    config = VlaConfig(
        host=json.loads(model.config.to_json_string(use_diff=False)),
        text_tokenizer=json.loads(tokenizer.backend_tokenizer.to_str()),
        num_actions=num_actions,
        actions=actions,
        cameras=cameras,
        state_key=state_key,
        state=state,
        max_text_tokens=max_text_tokens,
        first_action_id=first_action_id,
        image_mean=tuple(found.get("image_mean", HALF)),
        image_std=tuple(found.get("image_std", HALF)),
        pad_id=int(tokenizer.pad_token_id or 0),
    )
    return VlaModel(config, model)


def vla_of_checkpoint(
    config: VlaConfig, observation_shapes: Mapping[str, tuple[int, ...]], action_size: int
) -> VlaModel:
    """Rebuild a stored model, before its weights are loaded.

    Raises:
        ValueError: If its tokenizers belong to other observations or actions.
    """
    model = VlaModel(config)
    if model.observation_shapes != dict(observation_shapes):
        raise ValueError(
            f"host and tokenizers read {model.observation_shapes}, the checkpoint says "
            f"{dict(observation_shapes)}"
        )
    if model.action_tokenizer.size != action_size:
        raise ValueError(
            f"the action tokenizer has {model.action_tokenizer.size} dimensions, the action spec "
            f"{action_size}"
        )
    return model


def _untie(model: Any) -> None:
    """Give input and output embeddings weights of their own.

    The rows of the action block learn different things in the two places, and a checkpoint of
    safetensors holds no shared tensor.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head.weight is embedding.weight:
        head.weight = nn.Parameter(torch.clone(head.weight.detach()))
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
