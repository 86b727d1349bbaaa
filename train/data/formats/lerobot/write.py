"""LeRobotDataset v3.0, written: one row group per episode, images as PNG in the parquet files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .....decoding.plumbing.extras import require
from ...episodes import Episodes
from ...source import stated_rate
from ...tasks import UNKNOWN_TASK
from .metadata import CODEBASE_VERSION, PROVENANCE
from .statistics import statistics

_DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
_VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_CHUNK_SIZE = 1000


def write_lerobot_folder(
    path: Path,
    episodes: Episodes,
    advance: Callable[[int], object],
    file_megabytes: int = 100,
) -> None:
    """Write a new dataset into the folder `path`.

    Args:
        path: Folder to create.
        episodes: What to write; the metadata say the rate, and what the robot was asked to do.
            ``next.done`` is set on the last step of each episode and ``next.truncated`` where it
            did not terminate; what was seen after the last action has no place in the format.
        advance: Told the number of steps after each episode.
        file_megabytes: Size from which on a new parquet file is begun.

    Raises:
        ValueError: If the metadata say no rate, or tasks that do not fit the steps.
    """
    tasks = stated_tasks(episodes)
    writer = _FrameWriter(path, episodes, tasks, file_megabytes)
    rows: list[dict[str, Any]] = []
    for index, steps in enumerate(episodes.episode_slices):
        place = writer.write(index, steps)
        asked = [tasks[int(task)] for task in np.unique(writer.task_index[steps])]
        rows.append(_episode_row(index, steps, asked, place) | _episode_statistics(writer, steps))
        advance(steps.stop - steps.start)
    writer.close()
    _write_metadata(path, writer, tasks, file_megabytes)
    _write_table(path / _EPISODES_PATH, rows)
    _write_json(path / "meta/stats.json", statistics(writer.columns(slice(0, episodes.num_steps))))


def stated_rate_of(episodes: Episodes) -> int | float:
    """Control frequency [Hz] of the metadata, whole rates as integers, as LeRobot has them.

    Raises:
        ValueError: If the metadata do not say it.
    """
    rate = stated_rate(episodes.metadata)
    if rate is None:
        raise ValueError(
            "a LeRobotDataset states its frame rate, and the source does not say it; give fps"
        )
    return int(rate) if rate.is_integer() else rate


def stated_tasks(episodes: Episodes) -> dict[int, str]:
    """Texts by task index that the metadata say.

    Raises:
        ValueError: If it is not known which of several texts a step belongs to.
    """
    facts = episodes.metadata
    stated = facts.get("tasks") or [facts.get("task") or UNKNOWN_TASK]
    tasks = {index: str(text) for index, text in enumerate(stated) if text}
    index = episodes.infos.get("task_index")
    if index is not None and (unknown := set(np.unique(index).tolist()) - set(tasks)):
        raise ValueError(
            f"infos['task_index'] must be one of the {len(tasks)} tasks of the metadata, "
            f"{sorted(tasks)[:8]}, found {sorted(unknown)[:5]}"
        )
    if index is None and len(tasks) > 1:
        raise ValueError(
            f"the source has {len(tasks)} tasks, but no infos['task_index'] to say which at each "
            "step; read it as well, or give one task for all"
        )
    return tasks or {0: UNKNOWN_TASK}


class _FrameWriter:
    """Writes frames, one row group per episode, and begins new files as they grow."""

    def __init__(
        self, path: Path, episodes: Episodes, tasks: Mapping[int, str], file_megabytes: int
    ) -> None:
        self._parquet = require("pyarrow.parquet", "lerobot")
        self._pa = require("pyarrow", "lerobot")
        self._path, self.episodes, fps = path, episodes, stated_rate_of(episodes)
        self.fps = fps
        self._limit = file_megabytes * 2**20
        self._chunk_index, self._file_index, self._bytes = 0, 0, 0
        self._writer: Any = None
        # One text for all steps, unless the steps say which of several.
        self.task_index = np.full(episodes.num_steps, next(iter(tasks)), np.int64)
        if "task_index" in episodes.infos:
            self.task_index = np.asarray(episodes.infos["task_index"], np.int64).reshape(-1)
        names = dict(episodes.metadata.get("feature_names") or {})
        names["action"] = episodes.metadata.get("action_names")
        self.features = {
            name: _feature(array, fps, names.get(name))
            for name, array in self.columns(slice(0, 1)).items()
        }
        single = dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")
        for name, dtype in {"timestamp": "float32", **single}.items():
            self.features[name] = {"dtype": dtype, "shape": [1], "names": None, "fps": fps}

    def columns(self, rows: slice) -> dict[str, np.ndarray]:
        """Features of some steps by LeRobot's names, bookkeeping left out."""
        source = self.episodes
        columns = {key: array[rows] for key, array in source.observations.items()}
        columns["action"] = source.actions[rows]
        if source.rewards is not None:
            columns["next.reward"] = source.rewards[rows]
        done = np.zeros(rows.stop - rows.start, bool)
        truncated = done.copy()
        inside = (source.episode_ends > rows.start) & (source.episode_ends <= rows.stop)
        ends = source.episode_ends[inside] - 1 - rows.start
        done[ends], truncated[ends] = True, ~source.terminated[inside]
        columns |= {"next.done": done, "next.truncated": truncated}
        infos = {
            name if name.startswith("next.") else f"info.{name.replace('/', '.')}": array[rows]
            for name, array in source.infos.items()
            if name != "task_index"
        }
        return infos | columns

    def write(self, index: int, rows: slice) -> dict[str, int]:
        """Append an episode; return the chunk and file that it went to."""
        length = rows.stop - rows.start
        frames = np.arange(length)
        cells = {name: self._cells(name, array) for name, array in self.columns(rows).items()}
        cells["timestamp"] = self._pa.array((frames / self.fps).astype(np.float32))
        cells["frame_index"] = self._pa.array(frames)
        cells["episode_index"] = self._pa.array(np.full(length, index))
        cells["index"] = self._pa.array(np.arange(rows.start, rows.stop))
        cells["task_index"] = self._pa.array(self.task_index[rows])
        table = self._pa.table(cells)
        if self._writer is None or self._bytes >= self._limit:
            self._writer = self._next_file(table.schema)
        self._writer.write_table(table, row_group_size=length)
        self._bytes += table.nbytes
        return {"chunk_index": self._chunk_index, "file_index": self._file_index}

    def close(self) -> None:
        """Finish the last file."""
        self._writer.close()

    def _next_file(self, schema: Any) -> Any:
        if self._writer is not None:
            self.close()
            self._file_index, self._bytes = self._file_index + 1, 0
            if self._file_index == _CHUNK_SIZE:
                self._chunk_index, self._file_index = self._chunk_index + 1, 0
        path = self._path / _DATA_PATH.format(
            chunk_index=self._chunk_index, file_index=self._file_index
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._parquet.ParquetWriter(path, schema, compression="snappy")

    def _cells(self, name: str, array: np.ndarray) -> Any:
        """An arrow array with one cell per step: a number, nested fixed-size lists or a PNG."""
        if self.features[name]["dtype"] == "image":
            pictures = [{"bytes": _png(picture), "path": None} for picture in array]
            kind = self._pa.struct({"bytes": self._pa.binary(), "path": self._pa.string()})
            return self._pa.array(pictures, kind)
        cells = self._pa.array(np.ascontiguousarray(array).reshape(-1))
        shape = self.features[name]["shape"]
        if shape == [1]:
            return cells
        for size in reversed(shape):
            cells = self._pa.FixedSizeListArray.from_arrays(cells, size)
        return cells


def _feature(array: np.ndarray, fps: float, names: Any) -> dict[str, Any]:
    shape = list(array.shape[1:]) or [1]
    if array.dtype == np.uint8 and len(shape) == 3:
        axes = ["height", "width", "channels"]
        return {"dtype": "image", "shape": shape, "names": axes, "fps": fps}
    fits = isinstance(names, list) and len(names) == int(np.prod(shape))
    dtype = str(array.dtype)
    return {"dtype": dtype, "shape": shape, "names": names if fits else None, "fps": fps}


def _png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    gray = picture.shape[2] == 1
    image = require("PIL.Image", "lerobot").fromarray(
        picture[..., 0] if gray else np.asarray(picture)
    )
    image.save(stream, format="PNG")
    return stream.getvalue()


def _episode_row(
    index: int, rows: slice, tasks: Sequence[str], place: Mapping[str, int]
) -> dict[str, Any]:
    return {
        "episode_index": index,
        "tasks": list(tasks),
        "length": rows.stop - rows.start,
        "data/chunk_index": place["chunk_index"],
        "data/file_index": place["file_index"],
        "dataset_from_index": rows.start,
        "dataset_to_index": rows.stop,
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
    }


def _episode_statistics(writer: _FrameWriter, rows: slice) -> dict[str, Any]:
    """Statistics of one episode as LeRobot flattens them: ``stats/FEATURE/NAME``."""
    return {
        f"stats/{feature}/{name}": value
        for feature, values in statistics(writer.columns(rows)).items()
        for name, value in values.items()
    }


def _write_metadata(
    path: Path, writer: _FrameWriter, tasks: Mapping[int, str], file_megabytes: int
) -> None:
    episodes = writer.episodes
    info = {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": episodes.metadata.get("robot_type"),
        "total_episodes": episodes.num_episodes,
        "total_frames": episodes.num_steps,
        "total_tasks": len(tasks),
        "chunks_size": _CHUNK_SIZE,
        "data_files_size_in_mb": file_megabytes,
        "video_files_size_in_mb": 200,
        "fps": writer.fps,
        "splits": _splits(episodes),
        "data_path": _DATA_PATH,
        "video_path": _VIDEO_PATH,
        "features": writer.features,
    }
    _write_json(path / "meta/info.json", info)
    _write_json(path / PROVENANCE, dict(episodes.metadata))
    _write_tasks(path / "meta/tasks.parquet", tasks)


def _splits(episodes: Episodes) -> dict[str, str]:
    """The subsets, if each is a run of episodes, which is all that LeRobot can say."""
    subsets = dict(episodes.metadata.get("subsets") or {})
    runs = {
        name: f"{members[0]}:{members[-1] + 1}"
        for name, members in subsets.items()
        if members and members == list(range(members[0], members[-1] + 1))
    }
    whole = {"train": f"0:{episodes.num_episodes}"}
    return runs if runs and len(runs) == len(subsets) else whole


def _write_tasks(path: Path, tasks: Mapping[int, str]) -> None:
    """LeRobot reads tasks with pandas, as the index of the table; pandas needs to be told."""
    pyarrow = require("pyarrow", "lerobot")
    index = "__index_level_0__"
    table = pyarrow.table({"task_index": list(tasks), index: list(tasks.values())})
    names = ("name", "field_name", "pandas_type", "numpy_type", "metadata")
    columns = [
        dict(zip(names, (*values, None), strict=True))
        for values in (
            ("task_index", "task_index", "int64", "int64"),
            (None, index, "unicode", "object"),
        )
    ]
    pandas = {"index_columns": [index], "column_indexes": [], "columns": columns}
    table = table.replace_schema_metadata({"pandas": json.dumps(pandas)})
    require("pyarrow.parquet", "lerobot").write_table(table, path)


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    pyarrow = require("pyarrow", "lerobot")
    path.parent.mkdir(parents=True, exist_ok=True)
    require("pyarrow.parquet", "lerobot").write_table(pyarrow.Table.from_pylist(rows), path)


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4) + "\n")
