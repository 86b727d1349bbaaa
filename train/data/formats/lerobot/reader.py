"""LeRobotDataset v3.0, read: frames in parquet, metadata in ``meta``, videos in mp4.

``meta/info.json`` declares the features. A frame's ``index`` counts over all episodes, which lie
end to end in ``data/chunk-*/file-*.parquet``; ``meta/episodes`` says where each one is, and
``meta/tasks.parquet`` what was asked for: ``metadata["tasks"]`` has each text at its index, and if
it is more than one thing, ``info.task_index`` says which at each step; column ``task`` is the text
itself. Keys are hotloop's own already: ``observation.state``, ``observation.images.CAMERA``,
``action``; ``next.reward`` is the reward. An episode terminated if its last ``next.done`` is set
and ``next.truncated`` is not; without ``next.truncated``, where ``next.done`` just marks the last
frame, if ``next.success`` is set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .....decoding.plumbing.extras import require
from .....decoding.plumbing.files import read_json_object
from ...columns import ConcatenatedArray, StoredArray, naming
from ...selection import Selection
from ...source import Cuts, DatasetFile, stated_rate
from ...tasks import texts_by_index
from . import checks
from .frames import Numbers, Pictures
from .metadata import (
    BOOKKEEPING,
    CODEBASE_VERSION,
    PROVENANCE,
    Feature,
    declared_features,
    read_episode_rows,
    read_tasks,
    splits_as_subsets,
)
from .video import VideoArray

_ENDS = ("next.done", "next.truncated")


class LeRobotFile(DatasetFile):
    """An open LeRobotDataset; see the module's text."""

    layout = "lerobot"
    action_column = "action"
    task_column = "task_index"
    bookkeeping = (*BOOKKEEPING, *_ENDS)

    def __init__(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> None:
        super().__init__(path, options, resources)
        parquet = require("pyarrow.parquet", "lerobot")
        self.info = read_json_object(path / "meta" / "info.json")
        version = self.info.get("codebase_version")
        if version != CODEBASE_VERSION:
            raise ValueError(
                f"LeRobotDataset {CODEBASE_VERSION} is expected, meta/info.json says {version!r}; "
                "convert it with lerobot's convert_dataset_v21_to_v30"
            )
        files = sorted((path / "data").glob("*/*.parquet"))
        if not files:
            raise ValueError("no frames; expected data/chunk-*/file-*.parquet")
        self._parts = {}
        for file in files:
            with naming(file, "cannot be opened"):
                opened = resources.enter_context(parquet.ParquetFile(file))
            self._parts[file.relative_to(path).as_posix()] = opened
        self.features: dict[str, Feature] = declared_features(self.info)
        self.num_frames = sum(part.metadata.num_rows for part in self._parts.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The declared features that hold numbers, images or videos."""
        return tuple(name for name, f in self.features.items() if f.dtype != "string")

    def open_array(self, name: str) -> StoredArray:
        """Open a feature in all parts as one array; images and videos as uint8 pictures."""
        feature = self.features[name]
        if feature.dtype == "video":
            template = self.info.get("video_path")
            if not isinstance(template, str):
                raise ValueError(f"meta/info.json must say the video_path, found {template!r}")
            period = 1 / (self.rate() or 1.0)
            return VideoArray(self.path, template, period, feature, self.episodes, self.moments)
        if feature.dtype == "image":
            shape = feature.picture_shape
            return ConcatenatedArray(
                {part: Pictures(file, name, shape) for part, file in self._parts.items()}
            )
        numbers = {part: Numbers(f, name, feature.shape) for part, f in self._parts.items()}
        return ConcatenatedArray(numbers)

    def cuts(self) -> Cuts:
        """Borders where ``episode_index`` changes, which must be those of ``meta/episodes``."""
        index = self.column("episode_index").read().reshape(-1)
        ends = np.append(np.flatnonzero(np.diff(index)) + 1, len(index)).astype(np.int64)
        stated = [episode["dataset_to_index"] for episode in self.episodes]
        if stated != ends.tolist():
            raise ValueError(
                f"{self.path}: meta/episodes says that episodes end at {stated[:5]}..., but the "
                f"frames' episode_index changes at {ends[:5].tolist()}..."
            )
        done, truncated, success = (
            self._last(f"next.{name}", ends) for name in ("done", "truncated", "success")
        )
        none = np.zeros(len(ends), bool)
        if truncated is not None:
            return Cuts(ends, (none if done is None else done) & ~truncated)
        return Cuts(ends, none if success is None else success)

    def default_keys(self) -> dict[str, Selection]:
        """Features of observations, ``action`` and ``next.reward``; all others are infos."""
        keys = {"action": Selection("action")}
        if "next.reward" in self.names:
            keys["reward"] = Selection("next.reward")
        for name in self.names:
            shape = self.features[name].shape
            if name.startswith("observation."):
                picture = self.features[name].is_picture
                keys[name] = Selection(name, shape=None if picture else self.column(name).shape)
            elif name not in (*self.bookkeeping, "action", "next.reward"):
                # LeRobot declares single numbers as vectors of one.
                key = f"info.{name.removeprefix('info.')}"
                keys[key] = Selection(name, shape=() if shape == (1,) else None)
        if len(self.task_texts) > 1:
            keys["info.task_index"] = Selection("task_index", shape=())
        return keys

    def metadata(self) -> dict[str, Any]:
        """Frame rate [Hz], robot, tasks and subsets, and what hotloop wrote."""
        ours = self.path / PROVENANCE
        found = read_json_object(ours) if ours.exists() else {}
        found |= {"fps": self.info.get("fps"), "robot_type": self.info.get("robot_type")}
        subsets = splits_as_subsets(self.info, len(self.episodes))
        if subsets and "subsets" not in found:
            found["subsets"] = subsets
        return {**found, "tasks": texts_by_index(self.task_texts)}

    def feature_names(self, name: str) -> list[str] | None:
        """Names that ``info.json`` declares."""
        return self.features[name].feature_names if name in self.features else None

    def declared_picture(self, name: str) -> tuple[int, ...] | None:
        """What ``info.json`` declares, in whatever order."""
        feature = self.features.get(name)
        return feature.picture_shape if feature is not None and feature.is_picture else None

    def rate(self) -> float | None:
        """The declared ``fps`` [Hz]."""
        return stated_rate({"fps": self.info.get("fps")})

    def timestamps(self) -> np.ndarray | None:
        """The column ``timestamp`` [s], which begins anew in each episode."""
        if "timestamp" not in self.names:
            return None
        return self.column("timestamp").read().reshape(-1)

    @cached_property
    def task_texts(self) -> dict[int, str]:
        """Texts by ``task_index``."""
        return read_tasks(self.path)

    @cached_property
    def episodes(self) -> list[dict[str, Any]]:
        """Rows of ``meta/episodes`` in order, without statistics."""
        return read_episode_rows(self.path)

    @cached_property
    def _moments(self) -> np.ndarray:
        times = self.timestamps()
        if times is not None and np.isfinite(times).all():
            return times.astype(np.float64)
        frames = [np.arange(e["dataset_to_index"] - e["dataset_from_index"]) for e in self.episodes]
        return np.concatenate(frames) / (self.rate() or 1.0)

    def moments(self) -> np.ndarray:
        """Time of each step since its episode began [s], shape (T,)."""
        return self._moments

    def faults(self, cuts: Cuts) -> Iterator[str]:
        """Frames whose indices do not count on."""
        return checks.order_faults(self, cuts)

    def absences(self) -> Iterator[str]:
        """Episodes and videos that are declared and not there."""
        return checks.absences(self)

    def problems(self) -> Iterator[str]:
        """What ``meta`` says and the data disagrees with, and missing metadata."""
        return checks.problems(self)

    def losses(self) -> Iterator[str]:
        """Texts beside the tasks, and flags of the end before it."""
        strings = (name for name, feature in self.features.items() if feature.dtype == "string")
        yield from (f"texts of {name}" for name in strings)
        ends = self.cuts().episode_ends - 1
        for name in set(_ENDS) & set(self.names):
            if np.delete(self.column(name).read().reshape(-1), ends).any():
                yield f"{name} before the end of an episode"

    def videos(self) -> dict[str, VideoArray]:
        """The cameras that are videos."""
        names = [name for name, feature in self.features.items() if feature.dtype == "video"]
        arrays = {name: self.column(name).array for name in names}
        return {name: array for name, array in arrays.items() if isinstance(array, VideoArray)}

    def _last(self, name: str, ends: np.ndarray) -> np.ndarray | None:
        if name not in self.names:
            return None
        return self.column(name).read().reshape(-1)[ends - 1].astype(bool)
