"""Where things are in a LeRobotDataset v3.0, and what its metadata say, for those who write one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .....decoding.plumbing.extras import require
from .metadata import CODEBASE_VERSION
from .statistics import statistics

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
INFO, STATISTICS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
CHUNK_SIZE = 1000


def info(
    counts: Mapping[str, int], fps: float, robot_type: str | None, features: Mapping[str, Any],
    splits: Mapping[str, str], file_megabytes: int,
) -> dict[str, Any]:  # fmt: skip
    """The content of ``meta/info.json``.

    Args:
        counts: ``total_episodes``, ``total_frames`` and ``total_tasks``.
        fps: Frames per second [Hz].
        robot_type: What it was recorded on.
        features: What is declared of each column.
        splits: Ranges of episodes ``"START:STOP"`` by name.
        file_megabytes: Size from which on a new parquet file is begun.
    """
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": robot_type,
        **counts,
        "chunks_size": CHUNK_SIZE,
        "data_files_size_in_mb": file_megabytes,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": dict(splits),
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": dict(features),
    }


def place(number: int) -> dict[str, int]:
    """Chunk and file of the file of some number."""
    return {"chunk_index": number // CHUNK_SIZE, "file_index": number % CHUNK_SIZE}


def episode_row(
    index: int, rows: slice, tasks: Sequence[str], data: int, episodes: int = 0
) -> dict[str, Any]:
    """What ``meta/episodes`` says of an episode, without statistics.

    Args:
        index: Its number.
        rows: Its frames, counted over all episodes.
        tasks: What was asked for.
        data: Number of the file with its frames.
        episodes: Number of the file with this row.
    """
    return {
        "episode_index": index,
        "tasks": list(tasks),
        "length": rows.stop - rows.start,
        **{f"data/{name}": value for name, value in place(data).items()},
        "dataset_from_index": rows.start,
        "dataset_to_index": rows.stop,
        **{f"meta/episodes/{name}": value for name, value in place(episodes).items()},
    }


def flat_statistics(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Statistics of one episode as LeRobot flattens them: ``stats/FEATURE/NAME``."""
    return {
        f"stats/{feature}/{name}": value
        for feature, values in found.items()
        for name, value in values.items()
    }


def episode_statistics(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The same of an episode's frames."""
    return flat_statistics(statistics(columns))


def write_tasks(path: Path, tasks: Mapping[int, str]) -> None:
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


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of ``meta/episodes``."""
    pyarrow = require("pyarrow", "lerobot")
    path.parent.mkdir(parents=True, exist_ok=True)
    require("pyarrow.parquet", "lerobot").write_table(pyarrow.Table.from_pylist(rows), path)


def write_json(path: Path, content: Any) -> None:
    """Write a file of ``meta``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4) + "\n")
