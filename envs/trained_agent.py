"""Trained agents stored as plain arrays: a small network from observations to mean actions.

Two layouts of ``.npz`` files are known, both with layers ``W0, b0, W1, b1, ...`` of which the last
is linear:

- Stable-Baselines3 agents: optional ``obs_mean, obs_var, obs_clip`` of the observations, names
  ``activation`` (relu or tanh) and ``squash`` (tanh or clip) of the hidden and the last layer.
- DAPG agents (Rajeswaran et al. 2018): ``in_shift, in_scale, out_shift, out_scale``, tanh layers.
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np


class TrainedAgent:
    """Deterministic actions of a trained agent.

    Args:
        arrays: Contents of an agent's file.

    Raises:
        ValueError: If arrays are missing or do not fit each other; does not name the file.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        numbers = {key: value for key, value in arrays.items() if value.dtype.kind == "f"}
        self._layers = _layers(numbers)
        self.observation_size = self._layers[0][0].shape[1]
        self.action_size = self._layers[-1][0].shape[0]
        ones = np.ones(self.observation_size)
        if "in_shift" in numbers:
            self._shift, self._scale = numbers["in_shift"], numbers["in_scale"] + 1e-8
            self._clip, self._hidden = np.inf, np.tanh
            out_shift, out_scale = numbers["out_shift"], numbers["out_scale"]
            self._squash = lambda last: np.clip(last * out_scale + out_shift, -1, 1)
        else:
            self._shift = numbers.get("obs_mean", 0 * ones)
            self._scale = np.sqrt(numbers.get("obs_var", ones) + 1e-8)
            self._clip = float(numbers.get("obs_clip", np.array(np.inf)))
            self._hidden = {"relu": _relu, "tanh": np.tanh}[str(arrays["activation"])]
            self._squash = {"clip": _clip, "tanh": np.tanh}[str(arrays["squash"])]
        if np.shape(self._shift) != np.shape(self._scale) or np.shape(self._shift) != ones.shape:
            raise ValueError(f"normalisation of {np.shape(self._shift)} for {ones.shape} numbers")

    def reset(self, frame: Mapping[str, np.ndarray], seed: int) -> None:
        """Do nothing: the agent has no memory."""

    def act(self, frame: Mapping[str, np.ndarray]) -> np.ndarray:
        """Mean action for ``observation.state``, shape (..., O); shape (..., D), in [-1, 1]."""
        x = (frame["observation.state"] - self._shift) / self._scale
        x = np.clip(x, -self._clip, self._clip).astype(np.float32)
        for weight, bias in self._layers[:-1]:
            x = self._hidden(x @ weight.T + bias)
        weight, bias = self._layers[-1]
        return self._squash(x @ weight.T + bias)


def load_agent(path: Path | str) -> TrainedAgent:
    """Read an agent.

    Raises:
        FileNotFoundError: If there is no such file; names those beside it.
        ValueError: If the file is no agent.
    """
    path = Path(path)
    if not path.is_file():
        beside = sorted(file.name for file in path.parent.glob("*.npz"))
        raise FileNotFoundError(
            f"{path}: no such agent; in {path.parent} are {', '.join(beside) or 'no .npz files'}"
        )
    try:
        # numpy leaves a damaged file open that it has opened itself.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return TrainedAgent({name: file[name] for name in file.files})
    except KeyError as error:
        raise ValueError(f"{path}: not an agent; it has no or an unknown {error}") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not an agent: {error}") from error


def _layers(arrays: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    count = next(index for index in itertools.count() if f"W{index}" not in arrays)
    layers = [(arrays[f"W{index}"], arrays[f"b{index}"]) for index in range(count)]
    if not layers:
        raise KeyError("W0")
    for (before, _), (after, _) in itertools.pairwise(layers):
        if after.shape[1] != before.shape[0]:
            raise ValueError(f"layers of shapes {before.shape} and {after.shape} do not connect")
    return layers


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def _clip(x: np.ndarray) -> np.ndarray:
    return np.clip(x, -1, 1)
