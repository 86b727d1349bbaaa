"""``meta/`` of a LeRobotDataset: what is declared, in forms that can be relied on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .....decoding.plumbing.extras import require
from ...columns import naming
from ...pictures import picture_axes
from ...tasks import texts_by_index

CODEBASE_VERSION = "v3.0"
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
PROVENANCE = "meta/hotloop.json"


@dataclass(frozen=True)
class Feature:
    """What ``meta/info.json`` declares of a column.

    Attributes:
        name: Name of the column.
        dtype: Of its numbers, or ``"image"``, ``"video"`` or ``"string"``.
        shape: Shape of one step.
        names: Names of its numbers or axes, nested lists and dictionaries flattened.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def is_picture(self) -> bool:
        """Whether a step is declared to be a picture."""
        return self.dtype in ("image", "video")

    @property
    def picture_shape(self) -> tuple[int, ...]:
        """Declared height, width and channels, whatever the order of the declaration."""
        order = [name.lower().rstrip("s") for name in self.names]
        if sorted(order) == ["channel", "height", "width"] and len(self.shape) == 3:
            return tuple(self.shape[order.index(axis)] for axis in ("height", "width", "channel"))
        axes = picture_axes(self.shape, np.dtype(np.uint8))
        return self.shape if axes is None else tuple(self.shape[axis] for axis in axes)

    @property
    def feature_names(self) -> list[str] | None:
        """One name for each number of a step, None if the declaration has no such names."""
        size = int(np.prod(self.shape))
        return list(self.names) if len(self.names) == size and not self.is_picture else None


def declared_features(info: Mapping[str, Any]) -> dict[str, Feature]:
    """Features of ``info.json`` by name.

    Raises:
        ValueError: If one is not declared with a type and a shape.
    """
    found = info.get("features")
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"meta/info.json must declare features, found {str(found)[:80]}")
    return {name: _feature(name, entry) for name, entry in found.items()}


def _feature(name: str, entry: Any) -> Feature:
    entry = entry if isinstance(entry, Mapping) else {}
    dtype, shape = entry.get("dtype"), entry.get("shape")
    sizes = [size for size in shape if type(size) is int] if isinstance(shape, list) else [0]
    complete = sizes == shape and all(size > 0 for size in sizes)
    if not isinstance(dtype, str) or not complete:
        raise ValueError(
            f"meta/info.json: feature {name!r} must have a dtype and a shape of whole numbers, "
            f"found dtype {str(dtype)[:40]} and shape {str(shape)[:40]}"
        )
    return Feature(name, dtype, tuple(sizes), tuple(_flat_names(entry.get("names"))))


def _flat_names(names: Any) -> Iterator[str]:
    """Names in lists, and in dictionaries of lists or from names to positions."""
    if isinstance(names, str):
        yield names
    elif isinstance(names, list):
        for entry in names:
            yield from _flat_names(entry)
    elif isinstance(names, Mapping):
        if all(type(value) is int for value in names.values()):
            yield from sorted(names, key=lambda name: names[name])
        else:
            for value in names.values():
                yield from _flat_names(value)


def read_tasks(root: Path) -> dict[int, str]:
    """Texts by ``task_index``; pandas stores them as the index of ``tasks.parquet``.

    Raises:
        ValueError: If a text or an index is no such thing.
    """
    path = root / "meta" / "tasks.parquet"
    if not path.exists():
        return {}
    parquet = require("pyarrow.parquet", "lerobot")
    with naming(path, "cannot be read"):
        table = parquet.read_table(path)
    texts = [name for name in table.column_names if name != "task_index"]
    if "task_index" not in table.column_names or not texts:
        raise ValueError(f"{path} must have task_index and texts, found {table.column_names}")
    indices, values = table["task_index"].to_pylist(), table[texts[0]].to_pylist()
    for index, text in zip(indices, values, strict=True):
        if type(index) is not int or not isinstance(text, str):
            raise ValueError(f"{path}: task {index!r} has the text {text!r}, expected both")
    found = dict(zip(indices, values, strict=True))
    if len(found) != len(indices):
        raise ValueError(f"{path} has a task_index twice: {sorted(indices)[:10]}")
    texts_by_index(found)  # refuses indices that no list could hold
    return found


def read_episode_rows(root: Path) -> list[dict[str, Any]]:
    """Rows of ``meta/episodes`` in order, without statistics.

    Raises:
        ValueError: If a row does not say which frames are the episode's.
    """
    parquet = require("pyarrow.parquet", "lerobot")
    rows: list[dict[str, Any]] = []
    for path in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
        with naming(path, "cannot be read"), parquet.ParquetFile(path) as file:
            names = [n for n in file.schema_arrow.names if not n.startswith("stats/")]
            rows += file.read(columns=names).to_pylist()
    needed = ("episode_index", "dataset_from_index", "dataset_to_index")
    for row in rows:
        if absent := [name for name in needed if type(row.get(name)) is not int]:
            raise ValueError(f"meta/episodes: an episode has no {absent[0]}, found {row}")
        if not 0 <= row["dataset_from_index"] < row["dataset_to_index"]:
            raise ValueError(
                f"meta/episodes: episode {row['episode_index']} cannot have the frames "
                f"{row['dataset_from_index']} to {row['dataset_to_index']}"
            )
    return sorted(rows, key=lambda row: row["episode_index"])


def splits_as_subsets(info: Mapping[str, Any], num_episodes: int) -> dict[str, list[int]]:
    """Episodes of each split, but of one that is all of them, which says nothing."""
    splits = info.get("splits")
    found: dict[str, list[int]] = {}
    for name, text in splits.items() if isinstance(splits, Mapping) else ():
        if (borders := _borders(text)) is not None:
            members = list(range(borders[0], min(borders[1], num_episodes)))
            if members and len(members) < num_episodes:
                found[name] = members
    return found


def split_problems(info: Mapping[str, Any], num_episodes: int) -> Iterator[str]:
    """Splits that are no ranges of the episodes that are there."""
    splits = info.get("splits")
    if splits is not None and not isinstance(splits, Mapping):
        yield f"meta/info.json: splits must be ranges by name, found {str(splits)[:80]}"
    for name, text in splits.items() if isinstance(splits, Mapping) else ():
        borders = _borders(text)
        if borders is None or not borders[0] <= borders[1] <= num_episodes:
            yield (
                f"meta/info.json: split {name!r} must be a range START:STOP of the {num_episodes} "
                f"episodes, found {str(text)[:80]!r}"
            )


def _borders(text: Any) -> tuple[int, int] | None:
    start, colon, stop = str(text).partition(":")
    return (int(start), int(stop)) if colon and start.isdecimal() and stop.isdecimal() else None
