"""What a dataset file holds, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .columns import DECODE_ERRORS, Column, describe
from .formats.registry import find_dataset, format_of, open_dataset
from .source import Cuts, DatasetFile
from .summaries import ColumnSummary, Summarizer
from .task_checks import task_problems
from .timing import rate_faults

Found = TypeVar("Found")


@dataclass(frozen=True)
class DatasetReport:
    """Result of `inspect_dataset`.

    Attributes:
        path: The file.
        layout: Name of the format, or ``"unreadable"``.
        num_episodes: Number of episodes, None if they cannot be told.
        num_steps: Number of steps, None if it cannot be told.
        episode_length: Shortest, median and longest episode [steps], None as above.
        columns: One summary per column that could be opened.
        metadata: Provenance stored in the file.
        problems: Everything that is wrong; empty for a good file.
        notes: What is not wrong, but worth to know.
    """

    path: str
    layout: str
    num_episodes: int | None
    num_steps: int | None
    episode_length: tuple[int, float, int] | None
    columns: tuple[ColumnSummary, ...]
    metadata: dict[str, Any]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def inspect_dataset(
    name: Path | str,
    options: Mapping[str, Any] | None = None,
    *,
    task: str = "",
    progress: bool = False,
) -> DatasetReport:
    """Read a dataset block by block and collect every problem instead of the first.

    Args:
        name: As in `read_episodes`; images are decoded too, about 16 MiB at a time.
        options: What the file does not say itself.
        task: Task to hold the dataset against; by default the one that it says.
        progress: Show a progress bar on stderr.

    Raises:
        FileNotFoundError: If there is no such file or id.
        ValueError: If the format is unknown.
    """
    path = find_dataset(name)
    format_of(path)
    try:
        with open_dataset(path, options) as file:
            return inspect_opened(file, task, progress=progress)
    except ValueError as error:
        problem = str(error).removeprefix(f"{path}: ")
        return DatasetReport(str(path), "unreadable", None, None, None, (), {}, (problem,))


def inspect_opened(file: DatasetFile, task: str = "", *, progress: bool = False) -> DatasetReport:
    """The same for a dataset that is open."""
    return _Inspection(file, task).run(progress)


class _Inspection:
    """One pass over an open file; `problems` grows along the way."""

    def __init__(self, file: DatasetFile, task: str) -> None:
        self.file, self._task = file, task
        self.problems: list[str] = []

    def run(self, progress: bool) -> DatasetReport:
        """Summarise every column, then hold what the file says against what it holds."""
        opened = [self._attempt(partial(self.file.column, name)) for name in self._names()]
        columns = [column for column in opened if column is not None]
        summarizer = Summarizer(columns, progress)
        self.problems += summarizer.problems
        num_steps = self._check_lengths(columns)
        cuts = self._attempt(self.file.cuts)
        ends = None if cuts is None else cuts.episode_ends
        if ends is not None and num_steps is not None:
            self.problems += _end_problems(ends, num_steps)
        metadata = dict(self._attempt(self.file.metadata) or {})
        for check in (
            lambda: [] if cuts is None else rate_faults(self.file, cuts),
            lambda: [] if cuts is None else self.file.faults(cuts),
            self.file.absences,
            self.file.problems,
            lambda: task_problems(self.file, metadata, summarizer.ranges, self._task),
        ):
            self.problems += self._attempt(lambda check=check: list(check())) or []
        notes = self._attempt(lambda: list(self.file.notes())) or []
        facts = self._attempt(self.file.inspection_facts) or {}
        return DatasetReport(
            path=str(self.file.path),
            layout=self.file.layout,
            num_episodes=None if ends is None else len(ends),
            num_steps=num_steps,
            episode_length=_length_statistics(ends),
            columns=tuple(summarizer.summaries),
            metadata=metadata | _cut_facts(cuts) | facts,
            problems=tuple(dict.fromkeys(self.problems)),
            notes=tuple(dict.fromkeys(notes)),
        )

    def _names(self) -> list[str]:
        names = [name for name in self.file.names if name not in ("episode_ends", "terminated")]
        required = [self.file.action_column, *self.file.required]
        return [name for name in required if name not in names] + names

    def _attempt(self, call: Callable[[], Found]) -> Found | None:
        try:
            return call()
        except DECODE_ERRORS as error:
            self.problems.append(describe(error).removeprefix(f"{self.file.path}: "))
            return None

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
