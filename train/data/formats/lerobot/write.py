"""LeRobotDataset v3.0, written: one row group per episode, images as PNG in the parquet files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .....decoding.plumbing.extras import require
from ...episodes import Episodes
from ...source import stated_rate
from ...tasks import UNKNOWN_TASK
from .cells import declare, declare_bookkeeping, episode_table
from .layout import (
    DATA_PATH,
    EPISODES_PATH,
    INFO,
    STATISTICS,
    TASKS,
    episode_row,
    episode_statistics,
    info,
    place,
    write_json,
    write_rows,
    write_tasks,
)
from .metadata import PROVENANCE
from .statistics import statistics


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
        file = writer.write(index, steps)
        asked = [tasks[int(task)] for task in np.unique(writer.task_index[steps])]
        row = episode_row(index, steps, asked, file)
        rows.append(row | episode_statistics(writer.columns(steps)))
        advance(steps.stop - steps.start)
    writer.close()
    _write_metadata(path, writer, tasks, file_megabytes)
    write_rows(path / EPISODES_PATH.format(**place(0)), rows)
    write_json(path / STATISTICS, statistics(writer.columns(slice(0, episodes.num_steps))))


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
        self._path, self.episodes, fps = path, episodes, stated_rate_of(episodes)
        self.fps = fps
        self._limit = file_megabytes * 2**20
        self._file, self._bytes = 0, 0
        self._writer: Any = None
        # One text for all steps, unless the steps say which of several.
        self.task_index = np.full(episodes.num_steps, next(iter(tasks)), np.int64)
        if "task_index" in episodes.infos:
            self.task_index = np.asarray(episodes.infos["task_index"], np.int64).reshape(-1)
        names = dict(episodes.metadata.get("feature_names") or {})
        names["action"] = episodes.metadata.get("action_names")
        self.features = {
            name: declare(array, fps, names.get(name))
            for name, array in self.columns(slice(0, 1)).items()
        }
        self.features |= declare_bookkeeping(fps)

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

    def write(self, index: int, rows: slice) -> int:
        """Append an episode; return the number of the file that it went to."""
        table = episode_table(
            self.columns(rows), self.features, self.task_index[rows], index, rows.start
        )
        if self._writer is None or self._bytes >= self._limit:
            self._writer = self._next_file(table.schema)
        self._writer.write_table(table, row_group_size=rows.stop - rows.start)
        self._bytes += table.nbytes
        return self._file

    def close(self) -> None:
        """Finish the last file."""
        self._writer.close()

    def _next_file(self, schema: Any) -> Any:
        if self._writer is not None:
            self.close()
            self._file, self._bytes = self._file + 1, 0
        path = self._path / DATA_PATH.format(**place(self._file))
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._parquet.ParquetWriter(path, schema, compression="snappy")


def _write_metadata(
    path: Path, writer: _FrameWriter, tasks: Mapping[int, str], file_megabytes: int
) -> None:
    episodes = writer.episodes
    counts = {
        "total_episodes": episodes.num_episodes,
        "total_frames": episodes.num_steps,
        "total_tasks": len(tasks),
    }
    robot_type = episodes.metadata.get("robot_type")
    content = info(
        counts, writer.fps, robot_type, writer.features, _splits(episodes), file_megabytes
    )
    write_json(path / INFO, content)
    write_json(path / PROVENANCE, dict(episodes.metadata))
    write_tasks(path / TASKS, tasks)


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
