"""OpenVLA's folders: configuration, statistics and shards of weights, before anybody uses them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import SafetensorError
from torch import nn

from ....decoding.plumbing.files import read_json_object, refuse_lfs_pointer
from ....decoding.plumbing.schema import build
from ..tokenizer import BinStatistics
from .network import MODEL_TYPE

CONFIG_FILE, TOKENIZER_FILE = "config.json", "tokenizer.json"
PICTURES_FILE, STATISTICS_FILE = "preprocessor_config.json", "dataset_statistics.json"
WEIGHTS_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
_SIZES = {
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "max_position_embeddings",
}  # fmt: skip
PROJECTOR = "no-align+fused-gelu-mlp"


@dataclass(frozen=True)
class WeightFiles:
    """Where every weight lies, and its shape.

    Attributes:
        files: File of every weight.
        shapes: Its shape.
        dtype: The type that holds all of them.
    """

    files: dict[str, Path]
    shapes: dict[str, tuple[int, ...]]
    dtype: torch.dtype


@dataclass(frozen=True)
class _ActionStatistics:
    """What is needed of one data set's ``"action"``; no mask scales every dimension."""

    q01: tuple[float, ...]
    q99: tuple[float, ...]
    mask: tuple[bool, ...] | None = None


def is_openvla(path: Path) -> bool:
    """Whether a folder's configuration is OpenVLA's."""
    config = path / CONFIG_FILE
    return config.is_file() and read_json_object(config).get("model_type") == MODEL_TYPE


def read_config(path: Path) -> dict[str, Any]:
    """Configuration of a folder, checked for what the layout leaves open.

    Raises:
        ValueError: If it is a variant with another network or another way to decode.
    """
    config = read_json_object(path / CONFIG_FILE)
    vision = str(config.get("vision_backbone_id"))
    fused = vision.startswith("dinosiglip-vit-so-") and config.get("use_fused_vision_backbone", 1)
    text: Any = config.get("text_config")
    faults = [
        (not fused, "vision_backbone_id", "dinosiglip-vit-so-224px, DINOv2 and SigLIP fused"),
        (config.get("arch_specifier", PROJECTOR) != PROJECTOR, "arch_specifier", PROJECTOR),
        (config.get("n_action_bins", 256) != 256, "n_action_bins", "256"),
        (
            not isinstance(text, dict) or text.get("model_type") != "llama",
            "text_config",
            "a Llama's, with model_type and vocab_size",
        ),
    ]
    for wrong, name, expected in faults:
        if wrong:
            raise ValueError(
                f"{path / CONFIG_FILE}: {name} must be {expected}, got {str(config.get(name))[:80]}"
                "; no other OpenVLA is read"
            )
    for name in _SIZES & text.keys():
        if type(text[name]) is not int or text[name] < 1:
            raise ValueError(
                f"{path / CONFIG_FILE}: text_config.{name} must be a whole number above 0, got "
                f"{str(text[name])[:80]}"
            )
    if any(path.glob("action_head*")):
        raise ValueError(
            f"{path} has an action head of its own (OpenVLA-OFT), which reads its block in both "
            "directions and writes no tokens; only OpenVLA with action tokens is read"
        )
    return config


def read_statistics(path: Path, config: Mapping[str, Any], name: str = "") -> BinStatistics:
    """Quantiles of a data set's actions, from `STATISTICS_FILE` if it is there.

    Args:
        path: Folder.
        config: What `read_config` found.
        name: Data set; may be left out if there is one.

    Raises:
        ValueError: With the names that there are, if there is no such data set; if its statistics
            are none.
    """
    tuned = path / STATISTICS_FILE
    file = tuned if tuned.is_file() else path / CONFIG_FILE
    known = read_json_object(tuned) if tuned.is_file() else config.get("norm_stats")
    if not isinstance(known, dict) or not known:
        raise ValueError(
            f"{file} has no norm_stats, the statistics of actions; copy {tuned.name}, too"
        )
    if not name and len(known) > 1:
        raise ValueError(
            f"{file} has statistics of {len(known)} data sets; choose one with "
            f"openvla.norm_key=NAME: {', '.join(sorted(known))}"
        )
    name = name or next(iter(known))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" (do you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"{file} has no statistics of a data set {name!r}{hint}; openvla.norm_key is one of "
            f"{', '.join(sorted(known))}"
        )
    entry = known[name]
    action = entry.get("action") if isinstance(entry, dict) else None
    if not isinstance(action, dict):
        raise ValueError(f"{file}: {name}.action must hold q01, q99 and mask, got {action!r}")
    try:
        wanted = {key: action[key] for key in ("q01", "q99", "mask") if key in action}
        found = build(_ActionStatistics, wanted)
        mask = found.mask or (True,) * len(found.q01)
        return BinStatistics(found.q01, found.q99, mask)
    except ValueError as error:
        raise ValueError(f"{file}: {name}.action: {error}") from error


def find_weights(path: Path) -> WeightFiles:
    """The weights of a folder, whose shards `INDEX_FILE` lists; none is read.

    Raises:
        OSError: If a file is missing.
        ValueError: If files and index contradict one another, or are damaged.
    """
    index = path / INDEX_FILE
    if index.is_file():
        listed = read_json_object(index).get("weight_map")
        if not isinstance(listed, dict) or not listed:
            raise ValueError(f"{index} must list the file of every weight in weight_map")
        names = {str(key): str(value) for key, value in listed.items()}
    else:
        names = {}
    shards = sorted(set(names.values())) or [WEIGHTS_FILE]
    if odd := [one for one in shards if Path(one).name != one]:
        raise ValueError(f"{index}: shards lie in the folder itself, got {odd[0]!r}")
    files: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: set[str] = set()
    for shard in shards:
        for key, (shape, dtype) in _header(path / shard).items():
            files[key], shapes[key] = path / shard, shape
            dtypes.add(dtype)
    for key, shard in names.items():
        if files.get(key) != path / shard:
            raise ValueError(f"{index} says that {key} is in {shard}, which does not hold it")
    known = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
    if other := sorted(dtypes - known.keys()):
        raise ValueError(
            f"{path}: weights must be of type F32, BF16 or F16, got {', '.join(other)}; quantised "
            "ones are not read"
        )
    return WeightFiles(files, shapes, known[dtypes.pop()] if len(dtypes) == 1 else torch.float32)


def _header(file: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of a file's weights."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; copy the whole folder, with all its shards")
    refuse_lfs_pointer(file)
    try:
        with safetensors.safe_open(file, "pt") as opened:
            slices = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118
            return {
                key: (tuple(one.get_shape()), str(one.get_dtype())) for key, one in slices.items()
            }
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged, it holds no weights: {error}") from error


def refuse_other_weights(path: Path, expected: Mapping[str, Any], weights: WeightFiles) -> None:
    """Raise ValueError unless the weights have exactly these names and shapes.

    Args:
        path: Folder.
        expected: State of a network, whose values may be on the meta device.
        weights: What the folder has.
    """
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    faults = [f"{name} is missing" for name in shapes if name not in weights.shapes]
    faults += [f"{name} is unknown" for name in weights.shapes if name not in shapes]
    faults += [
        f"{name} has shape {weights.shapes[name]}, expected {shape}"
        for name, shape in shapes.items()
        if weights.shapes.get(name, shape) != shape
    ]
    if faults:
        more = f"; {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ValueError(
            f"{path} does not hold the weights of an OpenVLA that its {CONFIG_FILE} describes: "
            f"{'; '.join(faults[:3])}{more}"
        )


@torch.no_grad()
def fill(network: nn.Module, weights: WeightFiles) -> None:
    """Copy the weights into a network of the same names, one at a time.

    Raises:
        ValueError: If one holds NaN or infinite values.
    """
    state = network.state_dict()
    for file in sorted(set(weights.files.values())):
        with safetensors.safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                value = opened.get_tensor(name)
                if not value.isfinite().all():
                    raise ValueError(
                        f"{file}: {name} holds NaN or infinite values; the file is damaged or its "
                        "training failed"
                    )
                state[name].copy_(value)
