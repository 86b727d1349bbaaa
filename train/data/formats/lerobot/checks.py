"""What the metadata of a LeRobotDataset say, held against what its files hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .....decoding.plumbing.files import read_json_object
from ...source import Cuts
from .metadata import Feature, split_problems

if TYPE_CHECKING:
    from .reader import LeRobotFile

_TOLERANCE = 1e-3  # of the range of a feature, between its statistics and its values


def order_faults(file: LeRobotFile, cuts: Cuts) -> Iterator[str]:
    """Frames that ``index`` or ``frame_index`` puts elsewhere than where they are."""
    starts = np.concatenate([[0], cuts.episode_ends[:-1]])
    lengths = np.diff(cuts.episode_ends, prepend=0)
    places = np.arange(int(cuts.episode_ends[-1])) if len(lengths) else np.zeros(0, np.int64)
    expected = {"index": places, "frame_index": places - np.repeat(starts, lengths)}
    for name, numbers in expected.items():
        if name not in file.names:
            continue
        found = file.column(name).read().reshape(-1)
        if len(found) == len(numbers) and (found != numbers).any():
            first = int(np.argmax(found != numbers))
            yield (
                f"the frames are out of order: row {first} has {name} {found[first]}, expected "
                f"{numbers[first]}"
            )


def absences(file: LeRobotFile) -> Iterator[str]:
    """Episodes that ``info.json`` counts and nothing else knows; videos that are not there."""
    total, found = file.info.get("total_episodes"), len(file.episodes)
    if isinstance(total, int) and total > found:
        yield (
            f"{total - found} of {total} episodes are absent: meta/info.json counts them, but "
            f"there are {found}"
        )
    for array in file.videos().values():
        yield from array.faults


def problems(file: LeRobotFile) -> Iterator[str]:
    """Everything in ``meta`` that the data disagrees with, and what is missing of it."""
    counts = {"total_frames": file.num_frames, "total_episodes": len(file.episodes)}
    counts["total_tasks"] = len(file.task_texts)
    for name, count in counts.items():
        if file.info.get(name) != count:
            yield f"meta/info.json says {name} {file.info.get(name)}, found {count}"
    if file.rate() is None:
        yield f"meta/info.json: fps must be a number above 0, found {file.info.get('fps')!r}"
    for name in ("stats.json", "tasks.parquet"):
        if not (file.path / "meta" / name).exists():
            yield f"meta/{name} is missing"
    for feature in file.features.values():
        yield from _feature_problems(file, feature)
    yield from _episode_problems(file)
    yield from _task_problems(file)
    yield from split_problems(file.info, len(file.episodes))
    yield from _statistics_problems(file)
    yield from _video_problems(file)


def _feature_problems(file: LeRobotFile, feature: Feature) -> Iterator[str]:
    if feature.dtype == "string":
        return
    column = file.column(feature.name)
    declared = feature.picture_shape if feature.is_picture else feature.shape
    if column.shape != declared and not column.faults:
        yield (
            f"meta/info.json declares steps of shape {feature.shape} for {feature.name!r}, the "
            f"data has {column.shape}"
        )
    if not feature.is_picture and str(column.array.dtype) != feature.dtype:
        yield (
            f"meta/info.json declares {feature.dtype} for {feature.name!r}, the data is "
            f"{column.array.dtype}"
        )
    if feature.names and not feature.is_picture and feature.feature_names is None:
        yield (
            f"meta/info.json names {len(feature.names)} numbers of {feature.name!r}, which has "
            f"{column.num_features}"
        )


def _episode_problems(file: LeRobotFile) -> Iterator[str]:
    end = 0
    for number, row in enumerate(file.episodes):
        begin, stop, length = row["dataset_from_index"], row["dataset_to_index"], row.get("length")
        if row["episode_index"] != number:
            yield f"meta/episodes: episode {number} has episode_index {row['episode_index']}"
            return
        if begin != end:
            yield f"meta/episodes: episode {number} begins at frame {begin}, expected {end}"
        if length is not None and length != stop - begin:
            yield f"meta/episodes: episode {number} has length {length}, but {stop - begin} frames"
        end = stop
    index = file.column("episode_index").read().reshape(-1)
    values = index[np.concatenate([[True], np.diff(index) != 0])] if len(index) else index
    if values.tolist() != list(range(len(values))):
        yield f"the frames' episode_index should count from 0, found {values[:8].tolist()}"


def _task_problems(file: LeRobotFile) -> Iterator[str]:
    if "task_index" not in file.names:
        yield "there is no column 'task_index', so nothing says what was asked for"
        return
    known = list(file.task_texts)
    found = np.unique(file.column("task_index").read())
    if (unknown := found[~np.isin(found, known)]).size and known:
        yield (
            f"frames have task_index {unknown[:5].tolist()}, but meta/tasks.parquet has "
            f"{sorted(known)[:8]}"
        )


def _statistics_problems(file: LeRobotFile) -> Iterator[str]:
    path = file.path / "meta" / "stats.json"
    stored = read_json_object(path) if path.exists() else {}
    for name, feature in file.features.items():
        entry = stored.get(name)
        if feature.is_picture or feature.dtype in ("string", "bool") or entry is None:
            continue
        low, high = _bound(entry, "min"), _bound(entry, "max")
        values = file.column(name).read().astype(np.float64).reshape(file.num_frames, -1)
        found_low, found_high = values.min(axis=0), values.max(axis=0)
        slack = _TOLERANCE * np.maximum(found_high - found_low, 1e-6 + np.abs(found_high))
        for what, bound, found in (("min", low, found_low), ("max", high, found_high)):
            if bound.shape != found.shape or not (np.abs(bound - found) <= slack).all():
                yield (
                    f"meta/stats.json says {what} {_short(bound)} for {name!r}, found "
                    f"{_short(found)}"
                )
                break
        for what in ("mean", "std"):
            if (stated := _bound(entry, what)).shape != found_low.shape:
                yield (
                    f"meta/stats.json must say the {what} of the {len(found_low)} numbers of "
                    f"{name!r}, found {_short(stated)}"
                )


def _bound(entry: Any, name: str) -> np.ndarray:
    values = entry.get(name) if isinstance(entry, Mapping) else None
    try:
        return np.asarray(values, np.float64).reshape(-1)
    except (TypeError, ValueError):
        return np.zeros(0)


def _short(values: np.ndarray) -> str:
    numbers = ", ".join(f"{value:.4g}" for value in values[:4])
    return f"[{numbers}{', ...' if len(values) > 4 else ''}]"


def _video_problems(file: LeRobotFile) -> Iterator[str]:
    for name, array in file.videos().items():
        if not array.faults and (count := array.off_steps()):
            yield (
                f"{name!r} has no frame of its own for {count} of {file.num_frames} steps: frames "
                "are missing, or the video runs at another rate"
            )
