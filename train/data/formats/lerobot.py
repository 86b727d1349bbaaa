"""LeRobotDataset v3.0, read: frames in parquet, metadata in ``meta``, videos in mp4.

``meta/info.json`` declares the features. A frame's ``index`` counts over all episodes, which lie
end to end in ``data/chunk-*/file-*.parquet``; ``meta/episodes`` says where each one is, and
``meta/tasks.parquet`` what was asked for: ``metadata["tasks"]`` lists it, and if it is more than
one thing, ``info.task_index`` says which at each step. Keys are hotloop's own already:
``observation.state``, ``observation.images.CAMERA``, ``action``; ``next.reward`` is the reward. An
episode terminated if its last ``next.done`` is set and ``next.truncated`` is not; without
``next.truncated``, where ``next.done`` just marks the last frame, if ``next.success`` is set.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ..columns import ConcatenatedArray, StoredArray
from ..source import Cuts, DatasetFile, ReadOptions, Selection
from .lerobot_video import VideoArray

CODEBASE_VERSION = "v3.0"
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
PROVENANCE = "meta/hotloop.json"


class LeRobotFile(DatasetFile):
    """An open LeRobotDataset; see the module's text."""

    layout = "lerobot"
    action_column = "action"

    def __init__(self, path: Path, options: ReadOptions, resources: ExitStack) -> None:
        super().__init__(path, options, resources)
        parquet = import_parquet("reading")
        self.info = json.loads((path / "meta" / "info.json").read_text())
        version = self.info.get("codebase_version")
        if version != CODEBASE_VERSION:
            raise ValueError(
                f"LeRobotDataset {CODEBASE_VERSION} is expected, meta/info.json says {version!r}; "
                "convert it with lerobot's convert_dataset_v21_to_v30"
            )
        files = sorted((path / "data").glob("*/*.parquet"))
        if not files:
            raise ValueError("no frames; expected data/chunk-*/file-*.parquet")
        self._parts = {
            file.relative_to(path).as_posix(): resources.enter_context(parquet.ParquetFile(file))
            for file in files
        }
        self.features: dict[str, dict[str, Any]] = self.info["features"]
        self._num_frames = sum(part.metadata.num_rows for part in self._parts.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The declared features that hold numbers, images or videos."""
        return tuple(name for name, f in self.features.items() if f["dtype"] != "string")

    def open_array(self, name: str) -> StoredArray:
        """Open a feature in all parts as one array; images and videos as uint8 pictures."""
        feature = self.features[name]
        shape = tuple(feature["shape"])
        if feature["dtype"] == "video":
            return VideoArray(self.path, self.info, name, self.episodes(), self._num_frames)
        if feature["dtype"] == "image":
            pictures = {part: _Pictures(f, name, shape) for part, f in self._parts.items()}
            return ConcatenatedArray(pictures)
        dtype = np.dtype(feature["dtype"])
        numbers = {part: _Numbers(f, name, shape, dtype) for part, f in self._parts.items()}
        return ConcatenatedArray(numbers)

    def cuts(self) -> Cuts:
        """Borders where ``episode_index`` changes, which must be those of ``meta/episodes``."""
        index = self.column("episode_index").read().reshape(-1)
        ends = np.append(np.flatnonzero(np.diff(index)) + 1, len(index)).astype(np.int64)
        stated = [episode["dataset_to_index"] for episode in self.episodes()]
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
        """Features of observations, ``action`` and ``next.reward``; ``info.*`` where they exist."""
        keys = {"action": Selection("action")}
        if "next.reward" in self.names:
            keys["reward"] = Selection("next.reward")
        for name in self.names:
            shape = tuple(self.features[name]["shape"])
            if name.startswith("observation."):
                keys[name] = Selection(name, shape=shape)
            elif name.startswith("info."):
                # LeRobot declares single numbers as vectors of one.
                keys[name] = Selection(name, shape=() if shape == (1,) else shape)
        if len(self.tasks()) > 1:
            keys["info.task_index"] = Selection("task_index", shape=())
        return keys

    def metadata(self) -> dict[str, Any]:
        """Frame rate [Hz], robot, tasks and names of the actions, and what hotloop wrote."""
        facts = {"fps": self.info["fps"], "robot_type": self.info.get("robot_type")}
        names = self.features["action"].get("names")
        if isinstance(names, list):
            facts["action_names"] = names
        ours = self.path / PROVENANCE
        found = json.loads(ours.read_text()) if ours.exists() else {}
        return {**found, **facts, "tasks": self.tasks()}

    def tasks(self) -> list[str]:
        """Texts by ``task_index``; pandas stores them as the index of ``tasks.parquet``."""
        path = self.path / "meta" / "tasks.parquet"
        if not path.exists():
            return []
        table = import_parquet("reading").read_table(path)
        texts = next(name for name in table.column_names if name != "task_index")
        rows = zip(table["task_index"].to_pylist(), table[texts].to_pylist(), strict=True)
        return [text for _, text in sorted(rows)]

    def episodes(self) -> list[dict[str, Any]]:
        """Rows of ``meta/episodes`` in order, without statistics."""
        parquet = import_parquet("reading")
        rows: list[dict[str, Any]] = []
        for path in sorted((self.path / "meta" / "episodes").glob("*/*.parquet")):
            with parquet.ParquetFile(path) as file:
                names = [n for n in file.schema_arrow.names if not n.startswith("stats/")]
                rows += file.read(columns=names).to_pylist()
        return sorted(rows, key=lambda row: row["episode_index"])

    def problems(self) -> Iterator[str]:
        """Counts in ``info.json`` that the data disagrees with, and missing metadata."""
        counts = {"total_frames": self._num_frames, "total_episodes": len(self.episodes())}
        for name, count in counts.items():
            if self.info.get(name) != count:
                yield f"meta/info.json says {name} {self.info.get(name)}, found {count}"
        for name in ("stats.json", "tasks.parquet"):
            if not (self.path / "meta" / name).exists():
                yield f"meta/{name} is missing"

    def _last(self, name: str, ends: np.ndarray) -> np.ndarray | None:
        if name not in self.names:
            return None
        return self.column(name).read().reshape(-1)[ends - 1].astype(bool)


class _Part:
    """A column of one parquet file; the last row group read is kept."""

    def __init__(self, file: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        if name not in file.schema_arrow.names:
            raise ValueError(f"the parquet file has no column {name!r}")
        self._file, self._name = file, name
        self.shape, self.dtype = (file.metadata.num_rows, *shape), dtype
        groups = range(file.metadata.num_row_groups)
        self._borders = np.cumsum([0, *(file.metadata.row_group(g).num_rows for g in groups)])
        self._kept: tuple[int, Any] = (-1, None)

    def _values(self, rows: slice) -> Iterator[Any]:
        """Yield arrow arrays that together hold `rows`."""
        first = int(np.searchsorted(self._borders, rows.start, side="right")) - 1
        while self._borders[first] < rows.stop:
            begin, end = self._borders[first], self._borders[first + 1]
            start, stop = max(rows.start, begin) - begin, min(rows.stop, end) - begin
            yield self._group(first).slice(start, stop - start)
            first += 1
            if first == len(self._borders) - 1:
                return

    def _group(self, index: int) -> Any:
        if self._kept[0] != index:
            column = self._file.read_row_group(index, columns=[self._name]).column(0)
            self._kept = (index, column.combine_chunks())
        return self._kept[1]


class _Numbers(_Part):
    """Numbers, or lists of numbers of one length."""

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        pieces = []
        for values in self._values(rows):
            if values.null_count:
                raise ValueError(f"{self._name!r} has {values.null_count} empty cells")
            num_rows = len(values)
            while hasattr(values, "flatten") and "list" in str(values.type):
                values = values.flatten()
            pieces.append(values.to_numpy(zero_copy_only=False).reshape(num_rows, *self.shape[1:]))
        return np.concatenate(pieces).astype(self.dtype, copy=False)


class _Pictures(_Part):
    """Pictures stored as encoded files, one per cell."""

    def __init__(self, file: Any, name: str, shape: tuple[int, ...]) -> None:
        super().__init__(file, name, shape, np.dtype(np.uint8))

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        image = import_pillow("reading")
        out = [
            np.asarray(image.open(io.BytesIO(cell["bytes"])))
            for values in self._values(rows)
            for cell in values.to_pylist()
        ]
        return np.stack(out).reshape(len(out), *self.shape[1:])


def import_parquet(purpose: str) -> Any:
    """Import pyarrow's parquet module; raise ImportError naming the extra."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f"{purpose} LeRobot datasets needs: pip install 'hotloop[lerobot]'"
        ) from error
    return pyarrow.parquet


def import_pillow(purpose: str) -> Any:
    """Import Pillow's image module; raise ImportError naming the extra."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f"{purpose} images of LeRobot datasets needs: pip install 'hotloop[lerobot]'"
        ) from error
    return Image
