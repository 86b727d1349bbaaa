"""What a dataset file holds, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .columns import Column
from .formats.d4rl import D4rlFile
from .formats.registry import find_dataset, kind_of, open_dataset
from .source import Cuts, DatasetFile, ReadOptions

Found = TypeVar("Found")


@dataclass(frozen=True)
class ColumnSummary:
    """Statistics of one column over its finite values; None where there are none.

    Attributes:
        name: Name of the column in the file.
        num_steps: Number of rows T.
        shape: Shape of one step.
        dtype: Element type in the file.
        minimum: Smallest value.
        maximum: Largest value.
        mean: Mean value.
        num_nan: Values that are NaN.
        num_inf: Values that are infinite.
    """

    name: str
    num_steps: int
    shape: tuple[int, ...]
    dtype: str
    minimum: float | None
    maximum: float | None
    mean: float | None
    num_nan: int
    num_inf: int


@dataclass(frozen=True)
class DatasetReport:
    """Result of `inspect_dataset`.

    Attributes:
        path: The file.
        layout: "d4rl", "robomimic", "minari", "lerobot", "replay" or "unreadable".
        num_episodes: Number of episodes, None if they cannot be told.
        num_steps: Number of steps, None if it cannot be told.
        episode_length: Shortest, median and longest episode [steps], None as above.
        columns: One summary per column that could be opened.
        metadata: Provenance stored in the file.
        problems: Everything that is wrong; empty for a good file.
    """

    path: str
    layout: str
    num_episodes: int | None
    num_steps: int | None
    episode_length: tuple[int, float, int] | None
    columns: tuple[ColumnSummary, ...]
    metadata: dict[str, Any]
    problems: tuple[str, ...]


def inspect_dataset(
    name: Path | str, options: ReadOptions | None = None, *, progress: bool = False
) -> DatasetReport:
    """Read a dataset block by block and collect every problem instead of the first.

    Args:
        name: As in `read_episodes`; images are decoded too, about 16 MiB at a time.
        options: What the file does not say itself.
        progress: Show a progress bar on stderr.

    Raises:
        FileNotFoundError: If there is no such file or id.
        ValueError: If the format is unknown.
    """
    path = find_dataset(name)
    kind_of(path)
    try:
        with open_dataset(path, options) as file:
            return _Inspection(file).run(progress)
    except ValueError as error:
        problem = str(error).removeprefix(f"{path}: ")
        return DatasetReport(str(path), "unreadable", None, None, None, (), {}, (problem,))


class _Inspection:
    """One pass over an open file; `problems` grows along the way."""

    def __init__(self, file: DatasetFile) -> None:
        self.file = file
        self.problems: list[str] = []

    def run(self, progress: bool) -> DatasetReport:
        """Summarise every column, then compare lengths and episode ends."""
        opened = [self._attempt(partial(self.file.column, name)) for name in self._names()]
        columns = [column for column in opened if column is not None]
        summaries = self._summarize(columns, progress)
        num_steps = self._check_lengths(columns)
        cuts = self._attempt(self.file.cuts)
        ends = None if cuts is None else cuts.episode_ends
        if ends is not None and num_steps is not None:
            self.problems += _end_problems(ends, num_steps)
        self.problems += self._attempt(lambda: list(self.file.problems())) or []
        metadata = dict(self._attempt(self.file.metadata) or {})
        metadata |= _cut_facts(cuts)
        if isinstance(self.file, D4rlFile):
            shapes = self._attempt(self.file.observation_shapes) or {}
            metadata["observation_keys"] = {key: list(shape) for key, shape in shapes.items()}
        return DatasetReport(
            path=str(self.file.path),
            layout=self.file.layout,
            num_episodes=None if ends is None else len(ends),
            num_steps=num_steps,
            episode_length=_length_statistics(ends),
            columns=tuple(summaries),
            metadata=metadata,
            problems=tuple(dict.fromkeys(self.problems)),
        )

    def _names(self) -> list[str]:
        names = [name for name in self.file.names if name not in ("episode_ends", "terminated")]
        required = [self.file.action_column]
        required += ["observations"] if isinstance(self.file, D4rlFile) else []
        return [name for name in required if name not in names] + names

    def _attempt(self, call: Callable[[], Found]) -> Found | None:
        try:
            return call()
        except ValueError as error:
            self.problems.append(str(error).removeprefix(f"{self.file.path}: "))
            return None

    def _summarize(self, columns: list[Column], progress: bool) -> list[ColumnSummary]:
        from tqdm import tqdm

        num_bytes = sum(c.array.dtype.itemsize * int(np.prod(c.array.shape)) for c in columns)
        with tqdm(total=num_bytes, unit="B", unit_scale=True, disable=not progress) as bar:
            return [self._summarize_column(column, bar.update) for column in columns]

    def _summarize_column(self, column: Column, advance: Callable[[int], object]) -> ColumnSummary:
        low, high, total, num_values, num_nan, num_inf = np.inf, -np.inf, 0.0, 0, 0, 0
        for rows in column.blocks():
            block = self._attempt(partial(column.read, rows))
            if block is None:
                continue
            advance(block.nbytes)
            finite = np.isfinite(block)
            if not finite.all():
                num_nan += int(np.isnan(block).sum())
                num_inf += int(np.isinf(block).sum())
                block = block[finite]
            if block.size:
                low, high = min(low, block.min()), max(high, block.max())
                total += float(block.sum(dtype=np.float64))
                num_values += block.size
        if num_nan or num_inf:
            self.problems.append(
                f"column {column.name!r} holds {num_nan} NaN and {num_inf} infinite values"
            )
        return ColumnSummary(
            name=column.name,
            num_steps=column.num_steps,
            shape=column.shape,
            dtype=str(column.array.dtype),
            minimum=float(low) if num_values else None,
            maximum=float(high) if num_values else None,
            mean=total / num_values if num_values else None,
            num_nan=num_nan,
            num_inf=num_inf,
        )

    def _check_lengths(self, columns: list[Column]) -> int | None:
        lengths = {column.name: column.num_steps for column in columns}
        num_steps = lengths.get(self.file.action_column)
        if num_steps == 0:
            self.problems.append("there are no steps")
        if num_steps is not None:
            self.problems += [
                f"column {name!r} has {length} steps, but the actions have {num_steps}"
                for name, length in lengths.items()
                if length != num_steps
            ]
        return num_steps


def _cut_facts(cuts: Cuts | None) -> dict[str, Any]:
    """How episodes end, where anything but a plain cut is known."""
    if cuts is None:
        return {}
    facts = {"num_terminated": int(cuts.terminated.sum()), "num_unfinished": cuts.num_unfinished}
    return {name: count for name, count in facts.items() if count}


def _end_problems(ends: np.ndarray, num_steps: int) -> list[str]:
    if not len(ends):
        return ["there are no episodes"]
    problems = []
    lengths = np.diff(ends, prepend=0)
    for index in np.flatnonzero(lengths <= 0):
        before = ends[index - 1] if index else 0
        problems.append(
            f"'episode_ends' must increase strictly, but entry {index} is {ends[index]} after "
            f"{before}"
        )
    if ends[-1] != num_steps:
        problems.append(
            f"'episode_ends' ends at {ends[-1]}, but the actions have {num_steps} steps"
        )
    return problems


def _length_statistics(ends: np.ndarray | None) -> tuple[int, float, int] | None:
    if ends is None or not len(ends):
        return None
    lengths = np.diff(ends, prepend=0)
    return int(lengths.min()), float(np.median(lengths)), int(lengths.max())
