"""Processors from files: LeRobot's own of version 0.4 and later, and statistics among weights.

Six kinds of step are understood; every other one is refused by its name, because leaving it out
would change what the policy computes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ...decoding.plumbing.files import read_json_object, refuse_lfs_pointer
from .processors import Affine, Feature, Processors, Statistics, normalization, vector

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
_PASSIVE = ("to_batch_processor", "device_processor")
_RENAME, _NORMALIZE = "rename_observations_processor", "normalizer_processor"
_UNNORMALIZE = "unnormalizer_processor"
_EPS = 1e-8  # of folders that do not say


@dataclass(frozen=True)
class _Step:
    """One step of a pipeline: its registered name, choices, and file of statistics."""

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    state_file: str = ""


def read_processors(path: Path, inputs: Sequence[Feature], action: Feature) -> Processors:
    """What the processor files of LeRobot 0.4 and later say.

    Raises:
        OSError: If a file is missing.
        ValueError: If one is damaged, or holds a step that is not understood.
    """
    before = _steps(file_of(path, PREPROCESSOR), (_RENAME, *_PASSIVE, _NORMALIZE))
    after = _steps(file_of(path, POSTPROCESSOR), (_UNNORMALIZE, *_PASSIVE))
    normalise = _Normaliser.of(path, PREPROCESSOR, before, _NORMALIZE)
    unnormalise = _Normaliser.of(path, POSTPROCESSOR, after, _UNNORMALIZE)
    statistics = unnormalise.statistics.get(action.name, {})
    lacking = [one.name for one in inputs if normalise.lacks(one)]
    return Processors(
        {one.name: normalise.map(one) for one in inputs},
        unnormalise.map(action, invertible=True),
        vector(statistics, "min"),
        vector(statistics, "max"),
        _renames(path / PREPROCESSOR, before),
        (*lacking, action.name) if unnormalise.lacks(action) else tuple(lacking),
    )


def read_old_statistics(
    config_file: Path,
    config: Mapping[str, Any],
    buffers: Mapping[str, Tensor],
    inputs: Sequence[Feature],
    action: Feature,
) -> Processors:
    """What folders before LeRobot 0.4 say: modes in the configuration, statistics among weights.

    Args:
        config_file: Named in messages.
        config: What it holds.
        buffers: Statistics by their names, ``normalize_inputs.buffer_observation_state.min``.
        inputs: What the policy reads.
        action: What it commands.

    Raises:
        ValueError: If a mode or a statistic is missing.
    """
    modes = config.get("normalization_mapping")
    if not isinstance(modes, dict):
        raise ValueError(f"{config_file}: normalization_mapping must name modes, got {modes!r}")
    found: dict[str, dict[str, np.ndarray]] = {}
    for part, features in (("normalize_inputs", inputs), ("unnormalize_outputs", [action])):
        for feature in features:
            # From the feature's name, as names may hold underscores of their own.
            prefix = f"{part}.buffer_{feature.name.replace('.', '_')}."
            found[feature.name] = {
                name.removeprefix(prefix): value.double().numpy()
                for name, value in buffers.items()
                if name.startswith(prefix)
            }
            mode = modes.get(feature.type, "IDENTITY")
            if mode != "IDENTITY" and not found[feature.name]:
                raise ValueError(
                    f"{config_file}: {feature.name} is normalised by {mode}, but the weights hold "
                    f"no {prefix}*"
                )
    one = _Normaliser(str(config_file), modes, found, _EPS)
    statistics = found[action.name]
    return Processors(
        {feature.name: one.map(feature) for feature in inputs},
        one.map(action, invertible=True),
        vector(statistics, "min"),
        vector(statistics, "max"),
    )


@dataclass(frozen=True)
class _Normaliser:
    """Modes by type of feature, and statistics by feature."""

    where: str
    modes: Mapping[str, str]
    statistics: Mapping[str, Statistics]
    eps: float
    only: tuple[str, ...] | None = None

    @classmethod
    def of(cls, path: Path, file: str, steps: Sequence[_Step], name: str) -> _Normaliser:
        """The one normaliser of a pipeline; without one, nothing is normalised."""
        chosen = [step for step in steps if step.name == name]
        if len(chosen) > 1:
            raise ValueError(f"{path / file}: expected one {name}, got {len(chosen)}")
        if not chosen:
            return cls(str(path / file), {}, {}, _EPS)
        config, state_file = chosen[0].config, chosen[0].state_file
        modes, eps = config.get("norm_map"), config.get("eps", _EPS)
        only = config.get("normalize_observation_keys")
        if not isinstance(modes, dict) or not isinstance(eps, float) or not 0 < eps < np.inf:
            raise ValueError(
                f"{path / file}: {name} must hold norm_map and a positive eps, got norm_map "
                f"{modes!r}, eps {eps!r}"
            )
        if only is not None and not _are_names(only):
            raise ValueError(
                f"{path / file}: normalize_observation_keys must be a list of names, got {only!r}"
            )
        statistics = _read_statistics(path, state_file) if state_file else {}
        only = tuple(only) if only is not None and name == _NORMALIZE else None
        return cls(str(path / file), modes, statistics, eps, only)

    def map(self, feature: Feature, invertible: bool = False) -> Affine:
        """The map of one feature: its mode is that of its type; a type without mode is left."""
        statistics = self.statistics.get(feature.name, {})
        try:
            return normalization(feature, self._mode(feature), statistics, self.eps, invertible)
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from error

    def lacks(self, feature: Feature) -> bool:
        """Whether a feature would be normalised, were there statistics of it."""
        return self._mode(feature) != "IDENTITY" and feature.name not in self.statistics

    def _mode(self, feature: Feature) -> str:
        left = self.only is not None and feature.name not in self.only
        return "IDENTITY" if left else self.modes.get(feature.type, "IDENTITY")


def _steps(file: Path, understood: tuple[str, ...]) -> list[_Step]:
    """Steps of a pipeline, in order."""
    values = read_json_object(file).get("steps")
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError(f"{file}: steps must be a list of objects, got {values!r}")
    steps = []
    for value in values:
        name = value.get("registry_name") or value.get("class")
        if name not in understood:
            raise ValueError(
                f"{file}: step {name!r} is not understood, and without it the policy would compute "
                f"something else; understood are {', '.join(understood)}"
            )
        config, state_file = value.get("config") or {}, value.get("state_file") or ""
        if not isinstance(config, dict) or not isinstance(state_file, str):
            raise ValueError(f"{file}: step {name!r} must hold config and state_file, got {value}")
        if config.get("float_dtype") not in (None, "float32"):
            raise ValueError(
                f"{file}: float_dtype {config['float_dtype']!r} is not supported, only float32"
            )
        steps.append(_Step(name, config, state_file))
    return steps


def _renames(file: Path, steps: Sequence[_Step]) -> dict[str, str]:
    """Observed name to name inside the policy."""
    renames: dict[str, str] = {}
    names = [step.name for step in steps]
    if _NORMALIZE in names and _RENAME in names[names.index(_NORMALIZE) :]:
        raise ValueError(f"{file}: {_RENAME} must come before {_NORMALIZE}, got {names}")
    for step in steps:
        if step.name == _RENAME:
            found = step.config.get("rename_map") or {}
            inner = list(found.values()) if isinstance(found, dict) else None
            if not _are_names(inner) or len(set(inner)) < len(inner):
                raise ValueError(f"{file}: rename_map must map names to others, got {found!r}")
            renames |= found
    return renames


def _are_names(values: Any) -> TypeGuard[list[str]]:
    """Whether it is a list of strings."""
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def file_of(folder: Path, name: str) -> Path:
    """The path of one of a folder's files.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    path = folder / name
    # Unlike `Path.is_file`, False also for what is no name of a file at all.
    if Path(name).name != name or not os.path.isfile(path):  # noqa: PTH113
        raise FileNotFoundError(
            f"{folder} has no file {name[:100]!r}; copy the whole pretrained_model folder"
        )
    return path


def _read_statistics(path: Path, state_file: str) -> dict[str, dict[str, np.ndarray]]:
    """Statistics by feature and name, of the file that a step names."""
    file = refuse_lfs_pointer(file_of(path, state_file))
    try:
        values = safetensors.torch.load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged, it holds no statistics: {error}") from error
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, value in values.items():
        feature, _, name = key.rpartition(".")
        if value.is_complex():
            raise ValueError(f"{file}: {key} must hold real numbers, got {value.dtype}")
        found.setdefault(feature, {})[name] = value.double().numpy()
    return found
