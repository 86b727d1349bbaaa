"""LeRobotDataset v3.0, written: one row group per episode, images as PNG in the parquet files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..episodes import Episodes, blocks
from .lerobot import CODEBASE_VERSION, PROVENANCE, import_parquet, import_pillow

_DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
_VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_CHUNK_SIZE = 1000
_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
_STATISTICS_IMAGES, _STATISTICS_FRAMES = 200, 2**18


def write_lerobot_folder(
    path: Path,
    episodes: Episodes,
    fps: float,
    tasks: Sequence[str],
    advance: Callable[[int], object],
    file_megabytes: int = 100,
) -> None:
    """Write a new dataset into the folder `path`.

    Args:
        path: Folder to create.
        episodes: What to write. ``next.done`` is set on the last step of each episode and
            ``next.truncated`` where it did not terminate; what was seen after the last action has
            no place in the format.
        fps: Control frequency [Hz].
        tasks: What the robot was asked to do; with several texts, ``infos["task_index"]`` says
            which at each step.
        advance: Told the number of steps after each episode.
        file_megabytes: Size from which on a new parquet file is begun.
    """
    writer = _FrameWriter(path, episodes, fps, len(tasks), file_megabytes)
    rows: list[dict[str, Any]] = []
    for index, steps in enumerate(episodes.episode_slices):
        place = writer.write(index, steps)
        asked = [tasks[int(task)] for task in np.unique(writer.task_index[steps])]
        rows.append(_episode_row(index, steps, asked, place) | _episode_statistics(writer, steps))
        advance(steps.stop - steps.start)
    writer.close()
    _write_metadata(path, writer, tasks, file_megabytes)
    _write_table(path / _EPISODES_PATH, rows)
    _write_json(path / "meta/stats.json", _statistics(writer.columns(slice(0, episodes.num_steps))))


class _FrameWriter:
    """Writes frames, one row group per episode, and begins new files as they grow."""

    def __init__(
        self, path: Path, episodes: Episodes, fps: float, num_tasks: int, file_megabytes: int
    ) -> None:
        import pyarrow

        self._pa, self._parquet = pyarrow, import_parquet("writing")
        # LeRobot declares whole rates as integers.
        fps = int(fps) if float(fps).is_integer() else fps
        self._path, self.episodes, self.fps = path, episodes, fps
        self._limit = file_megabytes * 2**20
        self._chunk_index, self._file_index, self._bytes = 0, 0, 0
        self._writer: Any = None
        # One text for all steps, unless the steps say which of several.
        self.task_index = np.zeros(episodes.num_steps, np.int64)
        if num_tasks > 1:
            self.task_index = np.asarray(episodes.infos["task_index"], np.int64).reshape(-1)
        self.features = {name: _feature(a, fps) for name, a in self.columns(slice(0, 1)).items()}
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
        infos = {f"info.{name}": array[rows] for name, array in source.infos.items()}
        infos.pop("info.task_index", None)
        return columns | infos

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


def _feature(array: np.ndarray, fps: float) -> dict[str, Any]:
    shape = list(array.shape[1:]) or [1]
    if array.dtype == np.uint8 and len(shape) == 3:
        names: Any = ["height", "width", "channels"]
        return {"dtype": "image", "shape": shape, "names": names, "fps": fps}
    return {"dtype": str(array.dtype), "shape": shape, "names": None, "fps": fps}


def _png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    gray = picture.shape[2] == 1
    image = import_pillow("writing").fromarray(picture[..., 0] if gray else np.asarray(picture))
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
        for feature, values in _statistics(writer.columns(rows)).items()
        for name, value in values.items()
    }


def _statistics(columns: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Mean, deviation, range and quantiles per feature; quantiles from evenly spaced frames.

    Images are, as LeRobot has it, of the range 0 to 1 with one number per channel, of shape
    (C, 1, 1), and all their numbers are from few frames.
    """
    result = {}
    for feature, array in columns.items():
        image = array.dtype == np.uint8 and array.ndim == 4
        stride = 1 + (len(array) - 1) // (_STATISTICS_IMAGES if image else _STATISTICS_FRAMES)
        sample = np.asarray(array[::stride], np.float64)
        shape = array.shape[1:] or (1,)
        if image:
            sample, shape = sample.reshape(-1, array.shape[-1]) / 255, (array.shape[-1], 1, 1)
        sample = sample.reshape(len(sample), -1)
        numbers = _moments([sample] if image else _blocks(array))
        quantiles = np.quantile(sample, list(_QUANTILES.values()), axis=0)
        numbers |= dict(zip(_QUANTILES, quantiles, strict=True))
        result[feature] = {name: n.reshape(shape).tolist() for name, n in numbers.items()}
        result[feature]["count"] = [len(array[::stride]) if image else len(array)]
    return result


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    for rows in blocks(len(array), array.itemsize * int(np.prod(array.shape[1:]))):
        yield np.asarray(array[rows], np.float64).reshape(rows.stop - rows.start, -1)


def _moments(parts: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Range, mean and standard deviation of rows that come in parts (Chan's update)."""
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    low, high = np.full(1, np.inf), np.full(1, -np.inf)
    for part in parts:
        total = count + len(part)
        difference = part.mean(axis=0) - mean
        squares = squares + part.var(axis=0) * len(part)
        squares = squares + difference**2 * count * len(part) / total
        mean = mean + difference * len(part) / total
        low, high = np.minimum(low, part.min(axis=0)), np.maximum(high, part.max(axis=0))
        count = total
    return {"min": low, "max": high, "mean": mean, "std": np.sqrt(squares / count)}


def _write_metadata(
    path: Path, writer: _FrameWriter, tasks: Sequence[str], file_megabytes: int
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
        "splits": {"train": f"0:{episodes.num_episodes}"},
        "data_path": _DATA_PATH,
        "video_path": _VIDEO_PATH,
        "features": writer.features,
    }
    _write_json(path / "meta/info.json", info)
    _write_json(path / PROVENANCE, dict(episodes.metadata))
    _write_tasks(path / "meta/tasks.parquet", list(tasks))


def _write_tasks(path: Path, tasks: list[str]) -> None:
    """LeRobot reads tasks with pandas, as the index of the table; pandas needs to be told."""
    import pyarrow

    index = "__index_level_0__"
    table = pyarrow.table({"task_index": list(range(len(tasks))), index: tasks})
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
    import_parquet("writing").write_table(table, path)


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow

    path.parent.mkdir(parents=True, exist_ok=True)
    import_parquet("writing").write_table(pyarrow.Table.from_pylist(rows), path)


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4) + "\n")
