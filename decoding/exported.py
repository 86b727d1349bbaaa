"""An exported folder behind the contract of policies; without PyTorch."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .exported_openvino import OpenVinoFunction
from .exported_runtime import FEATURES, POLICY_FILE, OnnxFunction, Plans, read_about
from .interface import ActionSpec, Observation, ObservationSpec
from .plumbing.extras import require
from .trajectory import ActionTrajectory

FUNCTIONS = {function.runtime: function for function in (OnnxFunction, OpenVinoFunction)}
_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}


def is_exported(name: str | Path) -> bool:
    """Whether a name stands for a folder that `hotloop export` wrote."""
    return (Path(name) / POLICY_FILE).is_file()


class Encoded(NamedTuple):
    """A frame that was encoded: bytes of all cameras, and their features (F,)."""

    pictures: bytes
    features: np.ndarray


class ExportedPolicy:
    """A policy that `hotloop export` wrote; see `Policy`.

    Args:
        folder: Its folder.
        threads: Threads of the network.

    Attributes:
        action_spec: Names, bounds and period of the actions.
        observation_spec: Keys, shapes and number of frames.
        num_execute: Actions executed per plan.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the folder is damaged, of another format version, or for another runtime.
        ImportError: If the runtime is not installed.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        about = read_about(Path(folder))
        runtime: str = about["runtime"]
        if runtime not in FUNCTIONS:
            raise ValueError(
                f"{folder} holds graphs for {runtime}, which hotloop does not run; export with "
                "format=onnx or format=openvino"
            )
        require(_PACKAGES[runtime], "runtime")
        self._plans = Plans(folder, threads, FUNCTIONS[runtime])
        self.about: dict[str, Any] = about
        action = about["action"]
        self.action_spec = ActionSpec(
            tuple(action["names"]), tuple(action["low"]), tuple(action["high"]), about["dt"]
        )
        shapes = {one["key"]: tuple(one["shape"]) for one in about["observation"]}
        self.observation_spec = ObservationSpec(shapes, about["num_obs_steps"])
        self.num_execute: int = about["num_execute"]
        self._encodes = "frame" in about["graphs"]
        self._seen = list[deque[Encoded]]()

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`; see `Policy.reset`."""
        self._plans.reset(seeds, rows)
        if rows is None:
            length = 2 * self.observation_spec.num_steps
            self._seen = [deque[Encoded](maxlen=length) for _ in range(len(seeds))]
            return
        chosen: list[int] = rows.tolist()
        for row in chosen:
            self._seen[row].clear()

    def observe(self, observation: Observation) -> None:
        """Encode pictures between two plans; see `Observing.observe`."""
        if self._encodes:
            self._features(observation, -1)

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Plan for the rows of `observation`; see `Policy.plan`."""
        rows, seen, first = observation.rows, observation.step, np.array(step)
        choices = [
            self._plans.choose(*entry)
            for entry in zip(rows.tolist(), step.tolist(), seen.tolist(), strict=True)
        ]
        inputs = self._inputs(observation)
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for name in dict.fromkeys(choices):
            chosen = np.flatnonzero([one == name for one in choices])
            given = {key: value[chosen] for key, value in inputs.items()}
            actions = self._plans.plan(name, given, rows[chosen], step[chosen])
            graph = self.about["graphs"][name]
            if self.about["from_observation"]:
                first[chosen] = seen[chosen]
            else:
                first[chosen] -= graph.get("late") or 0
            parts.append((chosen, actions, np.asarray(graph["noise_level"], np.float32)))
        actions = np.empty((len(rows), *parts[0][1].shape[1:]), np.float32)
        levels = np.empty(actions.shape[:2], np.float32)
        for chosen, planned, level in parts:
            actions[chosen], levels[chosen] = planned, level
        valid = np.ones(levels.shape, bool)
        return ActionTrajectory(actions, first, seen, self.action_spec.dt, levels, valid)

    def _inputs(self, observation: Observation) -> Mapping[str, np.ndarray]:
        """What graphs are told of the observation, shape (R, To, ...) each."""
        spec, inputs = self.observation_spec, dict[str, np.ndarray]()
        shape = len(observation.rows), spec.num_steps, -1
        vectors = [observation.frames[key] for key in spec.shapes if key not in spec.pictures]
        if vectors:
            joined = [np.reshape(one, shape) for one in vectors]
            inputs["observation"] = np.concatenate(joined, axis=2)
        if self._encodes:
            every = [self._features(observation, index) for index in range(spec.num_steps)]
            inputs[FEATURES] = np.stack(every, axis=1)
        else:
            inputs |= {key: observation.frames[key] for key in spec.pictures}
        return inputs

    def _features(self, observation: Observation, index: int) -> np.ndarray:
        """Features (R, F) of one of the To frames; each picture is encoded once."""
        keys = self.observation_spec.pictures
        frame = {key: observation.frames[key][:, index] for key in keys}
        rows: list[int] = observation.rows.tolist()
        bytes_of = [b"".join(frame[key][i].tobytes() for key in keys) for i in range(len(rows))]
        found = [self._recall(row, seen) for row, seen in zip(rows, bytes_of, strict=True)]
        unknown = [entry for entry, features in enumerate(found) if features is None]
        if unknown:
            pictures = {key: value[unknown] for key, value in frame.items()}
            encoded = self._plans.encode(pictures)[FEATURES]
            for entry, features in zip(unknown, encoded, strict=True):
                found[entry] = features
                self._seen[rows[entry]].append(Encoded(bytes_of[entry], features))
        return np.array(found)

    def _recall(self, row: int, pictures: bytes) -> np.ndarray | None:
        return next((one.features for one in self._seen[row] if one.pictures == pictures), None)
