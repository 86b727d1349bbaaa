"""OpenVLA from a local folder, without its code: a `VlaModel` in its prompt and its vocabulary.

What the folder means: action tokens are the 256 ids below the unpadded vocabulary of V = 32000, id
V - b for bin b (so local token t is bin 256 - t); 255 bin centres, un-normalised by the quantiles
where the data set's mask says so. Where OpenVLA takes the likeliest of all ids, and clips what is
no action, here the likeliest action is taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ....decoding.plumbing.files import read_json_object
from ..model import VlaConfig, VlaModel
from ..text import import_transformers, load_text_tokenizer
from ..tokenizer import NUM_BINS, BinStatistics
from .folder import (
    CONFIG_FILE,
    PICTURES_FILE,
    TOKENIZER_FILE,
    WeightFiles,
    fill,
    find_weights,
    read_config,
    refuse_other_weights,
)
from .network import BEGIN_OF_TEXT_ID, EMPTY_ID, MODEL_TYPE, OpenVla

# Both towers are published with 16 heads, which no weight shows.
NUM_HEADS = 16
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
MAX_TEXT_TOKENS = 96  # a quarter of which is the question around the instruction


def load_openvla(
    path: Path,
    num_actions: int,
    actions: BinStatistics,
    cameras: tuple[str, ...],
    state_key: str = "",
    state: BinStatistics | None = None,
    max_text_tokens: int = MAX_TEXT_TOKENS,
) -> VlaModel:
    """Read a folder as OpenVLA's authors publish it, in float32.

    Args:
        path: Folder with configuration, tokenizer and safetensors.
        num_actions: Actions per chunk m; OpenVLA's own is 1.
        actions: Quantiles of the actions, see `folder.read_statistics`.
        cameras: Observation keys of the pictures; OpenVLA's own is one.
        state_key: Observation key of the proprioception, behind the text; OpenVLA reads none.
        state: Its quantiles.
        max_text_tokens: Longest question, in tokens.

    Raises:
        OSError: If a file is missing.
        ValueError: If a file is damaged, or anything in it is not OpenVLA's.
    """
    config, weights = read_config(path), find_weights(path)
    described = _described(path, config, weights)
    with torch.device("meta"):
        expected = OpenVla(described).state_dict()
    refuse_other_weights(path, expected, weights)
    tokenizer = _tokenizer(path)
    network = OpenVla(described)
    fill(network, weights)
    size = int(described["text_config"]["vocab_size"])
    vla = VlaConfig(
        host=described,
        text_tokenizer=tokenizer,
        num_actions=num_actions,
        actions=actions,
        cameras=cameras,
        state_key=state_key,
        state=state,
        max_text_tokens=max_text_tokens,
        first_action_id=size - _padding(path, config) - NUM_BINS,
        # Each tower normalises by its own numbers.
        image_mean=(0.0, 0.0, 0.0),
        image_std=(1.0, 1.0, 1.0),
        pad_id=_pad_id(path, config, size),
    )
    return VlaModel(vla, network)


def _described(path: Path, config: dict[str, Any], weights: WeightFiles) -> dict[str, Any]:
    """`OpenVlaSizes` of a folder as plain data."""
    plain = {
        key: value
        for key, value in config["text_config"].items()
        if key not in ("dtype", "torch_dtype")
    }
    transformers = import_transformers()
    text = transformers.AutoConfig.for_model(**plain).to_dict()
    text.pop("dtype", None)
    sizes = config.get("image_sizes", [224, 224])
    right = isinstance(sizes, list) and len(sizes) == 2 and sizes[0] == sizes[1]
    if not right or type(sizes[0]) is not int or sizes[0] < 1:
        raise ValueError(
            f"{path / CONFIG_FILE}: image_sizes must be one whole number twice, got {sizes!r}"
        )
    (first, second), names = _normalisation(path), ("featurizer", "fused_featurizer")
    towers = {
        name: _tower(path, f"vision_backbone.{name}.", weights, mean, std)
        for name, (mean, std) in zip(names, (first, second), strict=True)
    }
    return {
        "model_type": MODEL_TYPE,
        "image_size": sizes[0],
        **towers,
        "image_token_id": int(text["vocab_size"]) - 1,  # of the padding, which no text reaches
        "text_config": text,
    }


def _tower(
    path: Path, prefix: str, weights: WeightFiles, mean: tuple[float, ...], std: tuple[float, ...]
) -> dict[str, Any]:
    """Sizes of a vision tower, which only its weights say."""
    shapes = weights.shapes
    convolution, mlp = f"{prefix}patch_embed.proj.weight", f"{prefix}blocks.0.mlp.fc1.weight"
    register, fused = f"{prefix}reg_token", "fused" in prefix
    for name, sides in ((convolution, 4), (mlp, 2), *(() if fused else ((register, 3),))):
        if len(shapes.get(name, ())) != sides:
            raise ValueError(
                f"{path} does not hold the weights of an OpenVLA: {name} must have {sides} sides, "
                f"got {shapes.get(name, 'no such weight')}"
            )
    blocks = {name[len(prefix) :].split(".")[1] for name in shapes if name.startswith(f"{prefix}b")}
    return {
        "width": shapes[convolution][0],
        "layers": len(blocks),
        "heads": NUM_HEADS,
        "hidden": shapes[mlp][0],
        "patch_size": shapes[convolution][2],
        "registers": 0 if fused else shapes[register][1],
        "mean": list(mean),
        "std": list(std),
    }


def _normalisation(path: Path) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Mean and deviation of pictures, per tower."""
    file = path / PICTURES_FILE
    if not file.is_file():
        return [IMAGENET, HALF]
    found = read_json_object(file)
    both = [found.get("means", [IMAGENET[0], HALF[0]]), found.get("stds", [IMAGENET[1], HALF[1]])]
    for name, values in zip(("means", "stds"), both, strict=True):
        right = isinstance(values, list) and len(values) == 2
        if not right or not all(isinstance(one, list | tuple) and len(one) == 3 for one in values):
            raise ValueError(
                f"{file}: {name} must be three numbers per tower, two towers, got {values!r}"
            )
    return [(tuple(mean), tuple(std)) for mean, std in zip(*both, strict=True)]


def _padding(path: Path, config: dict[str, Any]) -> int:
    """Ids by which the vocabulary was padded."""
    padding = config.get("pad_to_multiple_of", 64)
    vocabulary = config["text_config"].get("vocab_size", 32_064)
    if not isinstance(padding, int) or not 0 < padding < vocabulary - NUM_BINS:
        raise ValueError(
            f"{path / CONFIG_FILE}: pad_to_multiple_of must be the ids behind the text's, "
            f"as 64 of 32064, got {padding!r} of {vocabulary}"
        )
    return padding


def _pad_id(path: Path, config: dict[str, Any], size: int) -> int:
    """Id of padding, one of the vocabulary's `size`."""
    pad_id = config.get("pad_token_id", 32_000)
    if type(pad_id) is not int or not 0 <= pad_id < size:
        raise ValueError(
            f"{path / CONFIG_FILE}: pad_token_id must be a whole number from 0 to {size - 1}, got "
            f"{pad_id!r}"
        )
    return pad_id


def _tokenizer(path: Path) -> dict[str, Any]:
    """The text tokenizer, which must be Llama 2's."""
    file = path / TOKENIZER_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing; copy the whole folder, or write it: "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    described = read_json_object(file)
    tokenizer = load_text_tokenizer(described)
    for number, token in ((BEGIN_OF_TEXT_ID, "<s>"), (EMPTY_ID, "▁")):
        if tokenizer.id_to_token(number) != token:
            raise ValueError(
                f"{file}: id {number} must be {token!r}, as in Llama 2's tokenizer, which OpenVLA "
                f"was trained with, got {tokenizer.id_to_token(number)!r}"
            )
    return described
