"""A miniature OpenVLA folder with random weights, key for key as its authors publish it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

TINY = "tiny_orig"
STATISTICS = {
    TINY: {
        "action": {
            "mean": [0.0, 0.1, 0.4],
            "std": [0.5, 0.5, 0.5],
            "q01": [-2.0, 0.0, 0.0],
            "q99": [2.0, 0.5, 1.0],
            "mask": [True, True, False],
        },
        "num_transitions": 10,
    },
    "other": {"action": {"q01": [-1.0, -1.0], "q99": [1.0, 1.0]}},
}
IMAGE_SIZE, PATCH, TEXT_WIDTH, LAYERS = 28, 14, 32, 2
DINO_WIDTH, SIGLIP_WIDTH, VOCABULARY = 32, 48, 32_064


def linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def tower(prefix: str, width: int, layers: int, hidden: int, dino: bool) -> dict[str, Any]:
    """Names of a vision tower of timm 0.9 as OpenVLA renames them (`scale_factor`)."""
    shapes: dict[str, Any] = {
        f"{prefix}.patch_embed.proj.weight": (width, 3, PATCH, PATCH),
        f"{prefix}.patch_embed.proj.bias": (width,),
        f"{prefix}.pos_embed": (1, (IMAGE_SIZE // PATCH) ** 2, width),
    }
    if dino:
        shapes |= {f"{prefix}.cls_token": (1, 1, width), f"{prefix}.reg_token": (1, 4, width)}
    for index in range(layers):
        block = f"{prefix}.blocks.{index}"
        shapes |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        shapes |= linear(f"{block}.attn.qkv", 3 * width, width)
        shapes |= linear(f"{block}.attn.proj", width, width)
        shapes |= linear(f"{block}.mlp.fc1", hidden, width)
        shapes |= linear(f"{block}.mlp.fc2", width, hidden)
        if dino:
            shapes |= {f"{block}.ls{one}.scale_factor": (width,) for one in (1, 2)}
    shapes |= norm(f"{prefix}.norm", width)
    if not dino:
        pool = f"{prefix}.attn_pool"
        shapes |= {f"{pool}.latent": (1, 1, width)} | norm(f"{pool}.norm", width)
        shapes |= linear(f"{pool}.q", width, width) | linear(f"{pool}.kv", 2 * width, width)
        shapes |= linear(f"{pool}.proj", width, width)
        shapes |= linear(f"{pool}.mlp.fc1", hidden, width)
        shapes |= linear(f"{pool}.mlp.fc2", width, hidden)
    return shapes


def language_model() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "language_model.model.embed_tokens.weight": (VOCABULARY, TEXT_WIDTH),
        "language_model.model.norm.weight": (TEXT_WIDTH,),
        "language_model.lm_head.weight": (VOCABULARY, TEXT_WIDTH),
    }
    for index in range(LAYERS):
        layer = f"language_model.model.layers.{index}"
        for one in ("q", "k", "v", "o"):
            shapes[f"{layer}.self_attn.{one}_proj.weight"] = (TEXT_WIDTH, TEXT_WIDTH)
        for one in ("gate", "up"):
            shapes[f"{layer}.mlp.{one}_proj.weight"] = (2 * TEXT_WIDTH, TEXT_WIDTH)
        shapes[f"{layer}.mlp.down_proj.weight"] = (TEXT_WIDTH, 2 * TEXT_WIDTH)
        for one in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{layer}.{one}.weight"] = (TEXT_WIDTH,)
    return shapes


def all_shapes() -> dict[str, tuple[int, ...]]:
    """Every weight of the miniature, 24 + 27 blocks and 32 layers shrunk to 3, 2 and 2."""
    both = DINO_WIDTH + SIGLIP_WIDTH
    return {
        **tower("vision_backbone.featurizer", DINO_WIDTH, 3, 4 * DINO_WIDTH, dino=True),
        **tower("vision_backbone.fused_featurizer", SIGLIP_WIDTH, 2, 179, dino=False),
        **linear("projector.fc1", 4 * both, both),
        **linear("projector.fc2", TEXT_WIDTH, 4 * both),
        **linear("projector.fc3", TEXT_WIDTH, TEXT_WIDTH),
        **language_model(),
    }


def config() -> dict[str, Any]:
    """Configuration as published, but for sizes of the Llama and of the pictures."""
    return {
        "architectures": ["OpenVLAForActionPrediction"],
        "arch_specifier": "no-align+fused-gelu-mlp",
        "auto_map": {"AutoConfig": "configuration_prismatic.OpenVLAConfig"},
        "hf_llm_id": "meta-llama/Llama-2-7b-hf",
        "image_resize_strategy": "resize-naive",
        "image_sizes": [IMAGE_SIZE, IMAGE_SIZE],
        "llm_backbone_id": "llama2-7b-pure",
        "llm_max_length": 2048,
        "model_type": "openvla",
        "n_action_bins": 256,
        "norm_stats": STATISTICS,
        "pad_to_multiple_of": 64,
        "pad_token_id": 32_000,
        "text_config": {
            "model_type": "llama",
            "pad_token_id": 32_000,
            "torch_dtype": "bfloat16",
            "vocab_size": VOCABULARY,
            "hidden_size": TEXT_WIDTH,
            "intermediate_size": 2 * TEXT_WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
        },
        "timm_model_ids": [
            "vit_large_patch14_reg4_dinov2.lvd142m",
            "vit_so400m_patch14_siglip_224",
        ],
        "torch_dtype": "bfloat16",
        "use_fused_vision_backbone": True,
        "vision_backbone_id": "dinosiglip-vit-so-224px",
    }


def tokenizer() -> dict[str, Any]:
    """A byte pair tokenizer with Llama 2's ids of what OpenVLA relies on, and letters alone."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 29_871}
    pieces = ["\n", *(chr(code) for code in range(33, 127))]
    vocabulary |= {piece: 29_900 + index for index, piece in enumerate(pieces)}
    added = {"content": "<PAD>", "id": 32_000, "special": True, "normalized": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{**added, **flags}],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }


def random_weights(dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights that make logits depend on everything; norms stay near 1."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in all_shapes().items():
        value = 0.3 * torch.randn(shape, generator=generator)
        is_gain = (len(shape) == 1 and name.endswith("weight")) or "scale_factor" in name
        found[name] = (1 + value / 3 if is_gain else value).to(dtype)
    return found


def write_folder(folder: Path, weights: dict[str, torch.Tensor] | None = None) -> Path:
    """Write configuration, tokenizer, picture processor, two shards and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = random_weights() if weights is None else weights
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    names = list(weights)
    parts = names[: len(names) // 2], names[len(names) // 2 :]
    for shard, part in zip(shards, parts, strict=True):
        chosen = {name: weights[name].contiguous() for name in part}
        safetensors.torch.save_file(chosen, folder / shard, metadata={"format": "pt"})
    listed = {name: shard for shard, part in zip(shards, parts, strict=True) for name in part}
    written = {
        "config.json": config(),
        "tokenizer.json": tokenizer(),
        "model.safetensors.index.json": {"metadata": {}, "weight_map": listed},
        "preprocessor_config.json": {
            "image_processor_type": "PrismaticImageProcessor",
            "image_resize_strategy": "resize-naive",
            "means": [[0.485, 0.456, 0.406], [0.5, 0.5, 0.5]],
            "stds": [[0.229, 0.224, 0.225], [0.5, 0.5, 0.5]],
        },
    }
    for name, value in written.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    return folder
