"""A LeRobotDataset v3.0 that grows: whole episodes come to it one by one, and nothing is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .....decoding.plumbing.extras import require
from .....decoding.plumbing.files import read_json_object, recover, replacing
from .cells import declare_bookkeeping, episode_table
from .layout import (
    DATA_PATH,
    EPISODES_PATH,
    INFO,
    STATISTICS,
    TASKS,
    VIDEO_PATH,
    episode_row,
    flat_statistics,
    info,
    place,
    write_json,
    write_rows,
    write_tasks,
)
from .metadata import CODEBASE_VERSION, PROVENANCE, read_episode_rows, read_tasks
from .statistics import merged_statistics, statistics

FILE_MEGABYTES = 100
# Written anew with each episode; all other files are never changed.
_RENEWED = (INFO, STATISTICS, TASKS, PROVENANCE)


@dataclass(frozen=True)
class Header:
    """What is the same for all episodes.

    Attributes:
        fps: Frames per second [Hz].
        robot_type: What it is recorded on.
        features: Declaration of each column as ``meta/info.json`` has it, without bookkeeping.
        provenance: What else there is to say; stored in a file of hotloop's own.
    """

    fps: float
    robot_type: str
    features: dict[str, dict[str, Any]]
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class NewEpisode:
    """One whole episode.

    Attributes:
        columns: One row per frame, by feature; encoded pictures as a list of bytes.
        task: What was asked for.
        videos: File of each feature that is a video; it is moved.
        statistics: Of features that are pictures, as `statistics` has them.
    """

    columns: dict[str, Any]
    task: str
    videos: dict[str, Path] = field(default_factory=dict[str, Path])
    statistics: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    @property
    def num_frames(self) -> int:
        """Frames of the episode."""
        return len(self.columns["action"])


class GrowingDataset:
    """A folder with a LeRobotDataset, or with none yet.

    Each episode is added in one step: a folder that has it, with hard links to all files of the
    earlier episodes, takes the place of the one that has not. Whoever is killed, at any time,
    leaves a sound dataset with all episodes that were added.

    Args:
        path: The folder; it is made with the first episode.
        header: What all episodes have in common; those that are there already must have it too.

    Raises:
        ValueError: If there is a dataset that does not go together with the header.
        FileExistsError: If there is something else.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = recover(path), header
        self._features = {**header.features, **declare_bookkeeping(header.fps)}
        self.tasks: dict[int, str] = {}
        self.num_episodes = self.num_frames = self._num_files = 0
        self._statistics: dict[str, Any] = {}
        self._splits: dict[str, str] = {}
        self._provenance = header.provenance
        if os.path.lexists(path):
            self._resume()

    def _resume(self) -> None:
        found = _read_info(self.path)
        _check_same(self.path, found, self.header, self._features)
        rows = read_episode_rows(self.path)
        self.tasks = read_tasks(self.path)
        self.num_episodes, self.num_frames = len(rows), rows[-1]["dataset_to_index"]
        self._num_files = len(list((self.path / "data").glob("*/*.parquet")))
        self._statistics = read_json_object(self.path / STATISTICS)
        splits = dict(found.get("splits") or {})
        self._splits = {} if splits == {"train": f"0:{len(rows)}"} else splits
        if (self.path / PROVENANCE).exists():
            self._provenance = read_json_object(self.path / PROVENANCE)

    def add(self, episode: NewEpisode) -> int:
        """Add an episode; return its number.

        Raises:
            OSError: If it cannot be written; then the dataset is what it was.
        """
        self._refuse_changed()
        tasks = dict(self.tasks)
        task_index = next((index for index, text in tasks.items() if text == episode.task), None)
        if task_index is None:
            task_index = max(tasks, default=-1) + 1
            tasks[task_index] = episode.task
        found = statistics(_numeric(episode.columns, self._features)) | episode.statistics
        total = merged_statistics(self._statistics, found) if self._statistics else found
        row = self._row(episode) | flat_statistics(found)
        with replacing(self.path) as partial:
            _link_all(self.path, partial)
            self._write_frames(partial, episode, task_index)
            for name, file in episode.videos.items():
                _move(file, partial / VIDEO_PATH.format(video_key=name, **place(self._num_files)))
            write_rows(partial / EPISODES_PATH.format(**place(self._num_files)), [row])
            write_json(partial / INFO, self._info(episode.num_frames, tasks))
            write_json(partial / STATISTICS, total)
            write_json(partial / PROVENANCE, self._provenance)
            write_tasks(partial / TASKS, tasks)
        self.tasks, self._statistics = tasks, total
        self.num_episodes += 1
        self.num_frames += episode.num_frames
        self._num_files += 1
        return self.num_episodes - 1

    def _refuse_changed(self) -> None:
        """Raise OSError if somebody else removed, replaced or changed the dataset."""
        there = os.path.lexists(self.path)
        info = self.path / INFO
        count = read_json_object(info).get("total_episodes") if info.is_file() else None
        if count != self.num_episodes if self.num_episodes else there:
            raise OSError(
                f"{self.path} was changed by somebody else while it was recorded: it has "
                f"{count if there else 'no'} episodes, expected {self.num_episodes}"
            )

    def _row(self, episode: NewEpisode) -> dict[str, Any]:
        rows = slice(self.num_frames, self.num_frames + episode.num_frames)
        number = self._num_files
        row = episode_row(self.num_episodes, rows, [episode.task], number, number)
        for name in episode.videos:
            for key, value in place(number).items():
                row[f"videos/{name}/{key}"] = value
            row[f"videos/{name}/from_timestamp"] = 0.0
            row[f"videos/{name}/to_timestamp"] = episode.num_frames / self.header.fps
        return row

    def _write_frames(self, folder: Path, episode: NewEpisode, task_index: int) -> None:
        parquet = require("pyarrow.parquet", "lerobot")
        index = np.full(episode.num_frames, task_index, np.int64)
        table = episode_table(
            episode.columns, self._features, index, self.num_episodes, self.num_frames
        )
        path = folder / DATA_PATH.format(**place(self._num_files))
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, path, compression="snappy", row_group_size=episode.num_frames)

    def _info(self, num_new: int, tasks: Mapping[int, str]) -> dict[str, Any]:
        counts = {
            "total_episodes": self.num_episodes + 1,
            "total_frames": self.num_frames + num_new,
            "total_tasks": len(tasks),
        }
        splits = self._splits or {"train": f"0:{self.num_episodes + 1}"}
        header = self.header
        return info(counts, header.fps, header.robot_type, self._features, splits, FILE_MEGABYTES)


def _numeric(columns: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: array for name, array in columns.items() if features[name]["dtype"] != "image"}


def _read_info(path: Path) -> dict[str, Any]:
    if not (path / INFO).is_file():
        raise FileExistsError(
            f"{path}: is there and no LeRobotDataset; give the name of a new folder, or of a "
            "dataset that is to grow"
        )
    found = read_json_object(path / INFO)
    if found.get("codebase_version") != CODEBASE_VERSION:
        raise ValueError(
            f"{path}: only a LeRobotDataset {CODEBASE_VERSION} can grow, this one is "
            f"{found.get('codebase_version')!r}; record into a new folder"
        )
    return found


def _check_same(
    path: Path, found: Mapping[str, Any], header: Header, features: Mapping[str, Any]
) -> None:
    """Raise ValueError if new episodes would be of another kind than those that are there."""
    advice = "; record into a new folder, or as that one was recorded"
    if found.get("fps") != header.fps:
        raise ValueError(
            f"{path} has {found.get('fps')} frames per second, this recording {header.fps}{advice}"
        )
    if found.get("robot_type") != header.robot_type:
        raise ValueError(
            f"{path} was recorded on robot {found.get('robot_type')!r}, this is "
            f"{header.robot_type!r}{advice}"
        )
    theirs: dict[str, Any] = dict(found.get("features") or {})
    if theirs.keys() != features.keys():
        missing, more = sorted(theirs.keys() - features), sorted(features.keys() - theirs)
        raise ValueError(
            f"{path} has other columns: it has {missing or 'none'} that this recording has not, "
            f"and lacks {more or 'none'}{advice}"
        )
    for name, feature in features.items():
        for key in ("dtype", "shape", "names"):
            if theirs[name].get(key) != feature[key]:
                raise ValueError(
                    f"{path}: {name!r} has the {key} {theirs[name].get(key)}, in this recording "
                    f"{feature[key]}{advice}"
                )


def _link_all(source: Path, target: Path) -> None:
    """Make a folder with the same files, without those that are written anew."""
    target.mkdir()
    renewed = {source / name for name in _RENEWED}
    for file in sorted(source.rglob("*")):
        copy = target / file.relative_to(source)
        if file.is_dir():
            copy.mkdir()
        elif file not in renewed:
            try:
                os.link(file, copy)
            except OSError:
                # Not every file system has links.
                shutil.copy2(file, copy)


def _move(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(file, target)
