"""LeRobot's checkpoint folders: where the files are, and what they hold, before anybody uses it.

From LeRobot 0.4 on, normalisation stands in processor files beside the configuration; older folders
keep its statistics among the weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ...decoding.plumbing.files import read_json_object, refuse_lfs_pointer
from ...decoding.plumbing.schema import build
from .processors import Feature, Processors
from .statistics import PREPROCESSOR, file_of, read_old_statistics, read_processors

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
INSTALLED = "lerobot:"  # before a folder whose network LeRobot itself is to run
_PLACES = ("", "pretrained_model", "checkpoints/last/pretrained_model", "last/pretrained_model")
_NORMALISERS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")
# Of every policy's configuration: where and how it was trained, nothing that it computes.
_ABOUT_TRAINING = {
    "type", "input_features", "output_features", "device", "use_amp", "use_peft", "push_to_hub",
    "repo_id", "private", "tags", "license", "pretrained_path", "pretrained_revision",
    "normalization_mapping", "gradient_checkpointing",
}  # fmt: skip
_TRAINING_PREFIXES = ("optimizer_", "scheduler_")
# Beyond what anybody feeds to a policy; larger ones are damage, and would fill the memory.
_LARGEST_VECTOR, _LARGEST_PICTURE = 2**16, 2**12


@dataclass(frozen=True)
class Folder:
    """A checkpoint as LeRobot wrote it.

    Attributes:
        path: Folder with `CONFIG_FILE` and `WEIGHTS_FILE`.
        type: Type of policy, e.g. ``"diffusion"``.
        config: What `CONFIG_FILE` holds.
        weights: The network's weights by LeRobot's names, float32, finite.
        inputs: What the policy reads, in its order, by the names inside the policy.
        action: What it commands.
        processors: Normalisation and other names of what it reads.
    """

    path: Path
    type: str
    config: dict[str, Any]
    weights: dict[str, Tensor]
    inputs: tuple[Feature, ...]
    action: Feature
    processors: Processors

    @property
    def observation_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one frame per key as hotloop observes it: pictures are height, width, 3."""
        return {
            self.processors.observed(one.name): (*one.shape[1:], 3) if one.is_picture else one.shape
            for one in self.inputs
        }


@dataclass(frozen=True)
class _Declared:
    """A feature as `CONFIG_FILE` declares it."""

    type: Literal["STATE", "ENV", "VISUAL", "ACTION"]
    shape: tuple[int, ...]


def find_folder(path: Path) -> Path | None:
    """The folder of a LeRobot checkpoint: itself, its step's, or its run's; None if it is none."""
    for place in _PLACES:
        config = path / place / CONFIG_FILE
        if config.is_file():
            values = read_json_object(config)
            return config.parent if "type" in values and "format_version" not in values else None
    return None


def open_folder(path: Path) -> Folder:
    """Read the folder that `find_folder` found.

    Raises:
        OSError: If a file is missing.
        ValueError: If a file is damaged or not downloaded, or holds what is not supported.
    """
    config = read_json_object(path / CONFIG_FILE)
    try:
        _refuse_adapters(path, config)
        inputs, action = _features(config)
    except ValueError as error:
        raise ValueError(f"{path / CONFIG_FILE}: {error}") from error
    weights = read_weights(file_of(path, WEIGHTS_FILE))
    old = {name: weights.pop(name) for name in list(weights) if name.startswith(_NORMALISERS)}
    is_old = not (path / PREPROCESSOR).is_file() and (old or _is_unnormalised(config))
    if is_old:
        processors = read_old_statistics(path / CONFIG_FILE, config, old, inputs, action)
    else:
        processors = read_processors(path, inputs, action)
    return Folder(path, str(config["type"]), config, weights, inputs, action, processors)


def read_fields(schema: type[Any], config: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Build the dataclass of the fields that a policy computes with, and name the others.

    Args:
        schema: Dataclass whose fields are LeRobot's; those without default must be there.
        config: What `CONFIG_FILE` holds.

    Returns:
        The dataclass, and the names of fields that neither it nor LeRobot's training knows.
    """
    known = set(schema.__dataclass_fields__)
    needed = [one.name for one in dataclasses.fields(schema) if one.default is dataclasses.MISSING]
    if missing := [name for name in needed if name not in config]:
        raise ValueError(
            f"lacks {', '.join(missing)}, which LeRobot writes; copy the whole folder anew"
        )
    unknown = [
        name
        for name in config
        if name not in known | _ABOUT_TRAINING and not name.startswith(_TRAINING_PREFIXES)
    ]
    return build(schema, {name: config[name] for name in config if name in known}), unknown


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights by name, without what ``torch.compile`` puts into names, and without counters.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is damaged, not downloaded, of another type than float32, or holds NaN or
            infinite values.
    """
    refuse_lfs_pointer(path)
    try:
        found = safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, it holds no weights: {error}") from error
    weights = {
        name.replace("._orig_mod", ""): value
        for name, value in found.items()
        if value.ndim or value.is_floating_point()
    }
    if not weights:
        raise ValueError(f"{path} holds no weights; copy the whole folder anew")
    if other := sorted({str(one.dtype) for one in weights.values()} - {str(torch.float32)}):
        raise ValueError(f"{path} holds weights of type {', '.join(other)}; expected float32")
    for name, value in weights.items():
        if not value.isfinite().all():
            raise ValueError(
                f"{path}: {name} holds NaN or infinite values; the file is damaged or its training "
                "failed"
            )
    return weights


def load_weights(module: torch.nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Fill a module with weights by its own names.

    Raises:
        ValueError: With all names that are missing or unknown, and all shapes that differ.
    """
    refuse_other_weights(
        {name: tuple(value.shape) for name, value in module.state_dict().items()}, weights, path
    )
    module.load_state_dict(dict(weights))


def refuse_other_weights(
    expected: Mapping[str, tuple[int, ...]], weights: Mapping[str, Tensor], path: Path
) -> None:
    """Raise ValueError unless the weights have these names and shapes; it lists all that differ."""
    found = {name: tuple(value.shape) for name, value in weights.items()}
    faults = [f"{name} is missing" for name in expected if name not in found]
    faults += [f"{name} is unknown" for name in found if name not in expected]
    faults += [
        f"{name} has shape {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if found.get(name, shape) != shape
    ]
    if faults:
        raise ValueError(
            f"{path} does not hold the weights that {CONFIG_FILE} describes: " + "; ".join(faults)
        )


def refuse_larger(weights: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
    """Raise ValueError for sizes beyond every side, and the number, of the weights.

    Their network is not in the file, and building it to compare shapes might fill the memory.
    """
    most = max((side for value in weights.values() for side in value.shape), default=0)
    most = max(most, len(weights))
    for name, size in sizes.items():
        if size > most:
            raise ValueError(
                f"{name} is {size}, but no side of the weights in {WEIGHTS_FILE} is beyond {most}"
            )


def _is_unnormalised(config: Mapping[str, Any]) -> bool:
    """Whether a folder from before 0.4 has no statistics because it needs none."""
    modes = config.get("normalization_mapping")
    return isinstance(modes, dict) and set(modes.values()) <= {"IDENTITY"}


def _refuse_adapters(path: Path, config: Mapping[str, Any]) -> None:
    if config.get("use_peft") or (path / "adapter_config.json").is_file():
        raise ValueError(
            "the policy is an adapter (use_peft) of other weights, which cannot be imported; merge "
            "it with its base first"
        )


def _features(config: Mapping[str, Any]) -> tuple[tuple[Feature, ...], Feature]:
    """Features that the policy reads, in order, and the one that it commands."""
    if not isinstance(config["type"], str):
        raise ValueError(f"type must be a name, got {config['type']!r}")
    found: dict[str, list[Feature]] = {}
    for part in ("input_features", "output_features"):
        declared = config.get(part)
        if not isinstance(declared, dict) or not declared:
            raise ValueError(
                f"{part} must name what goes {'in' if part[0] == 'i' else 'out'}, got "
                f"{declared!r}; folders without it are older than LeRobot 0.1, which migrates them"
            )
        found[part] = [_feature(name, value, part) for name, value in declared.items()]
    actions = [one for one in found["output_features"] if one.type == "ACTION"]
    if len(found["output_features"]) != 1 or len(actions) != 1 or len(actions[0].shape) != 1:
        raise ValueError(
            f"output_features must be one action, a vector, got {config['output_features']}"
        )
    return tuple(found["input_features"]), actions[0]


def _feature(name: str, value: Any, part: str) -> Feature:
    if not isinstance(value, dict):
        raise ValueError(f"{part}.{name} must hold type and shape, got {value!r}")
    declared = build(_Declared, value, f"{part}.{name}.")
    feature = Feature(name, declared.type, declared.shape)
    if not declared.shape or min(declared.shape) < 1:
        raise ValueError(f"{part}.{name}.shape must be of positive sides, got {declared.shape}")
    if feature.is_picture and (len(declared.shape) != 3 or declared.shape[0] != 3):
        raise ValueError(
            f"{part}.{name}: pictures are red, green and blue, (3, height, width); got "
            f"{declared.shape}"
        )
    if not feature.is_picture and len(declared.shape) != 1:
        raise ValueError(f"{part}.{name} must be a vector, got shape {declared.shape}")
    largest = _LARGEST_PICTURE if feature.is_picture else _LARGEST_VECTOR
    if max(declared.shape) > largest:
        raise ValueError(f"{part}.{name}.shape: at most {largest} a side, got {declared.shape}")
    return feature
