"""From an open dataset file to `Episodes`: one pass, block by block, into memory or into files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...decoding.instruction import INSTRUCTION_KEY
from .columns import Column
from .episodes import Episodes, blocks, check_lengths
from .pictures import as_pixels
from .robosuite_control import ABSOLUTE_COLUMN
from .selection import Selection
from .source import Cuts, DatasetFile
from .timing import rate_faults

Allocate = Callable[[str, tuple[int, ...], np.dtype[Any]], np.ndarray]


@dataclass(frozen=True)
class Step:
    """What one step of a key becomes.

    Attributes:
        column: Where it comes from.
        shape: Of one step.
        dtype: Of its numbers.
        is_picture: Whether it is read as a picture.
    """

    column: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_picture: bool


class Decoding:
    """What is to be read from a file, and how large it will be.

    Args:
        file: Open dataset.
        selections: What to read, from `DatasetFile.select`.

    Raises:
        ValueError: If a column does not exist or does not fit the others, naming the file.
    """

    def __init__(self, file: DatasetFile, selections: Mapping[str, Selection]) -> None:
        self.file, self._selections = file, selections
        if "action" not in selections:
            raise ValueError(f"{file.path}: no actions are read")
        self._targets = {
            key: _Target(key, file.column(selection.column), selection)
            for key, selection in selections.items()
        }
        columns = [target.column for target in self._targets.values()]
        self._row_bytes = sum(column.row_bytes for column in columns)
        self._multiple = max(column.rows_per_chunk for column in columns)
        self.num_steps = self._targets["action"].column.num_steps
        try:
            if self.num_steps:  # Else that is the error to report.
                check_lengths({key: t.column.num_steps for key, t in self._targets.items()})
        except ValueError as error:
            raise ValueError(f"{file.path}: {error}") from error

    @property
    def num_bytes(self) -> int:
        """Size of the result [bytes]."""
        targets = self._targets.values()
        return sum(t.dtype.itemsize * int(np.prod(t.shape, dtype=np.int64)) for t in targets)

    @property
    def columns(self) -> set[str]:
        """Columns that are read."""
        return {target.column.name for target in self._targets.values()}

    @property
    def steps(self) -> dict[str, Step]:
        """What is read, by key."""
        return {
            key: Step(target.column.name, target.shape[1:], target.dtype, target.is_picture)
            for key, target in self._targets.items()
        }

    @property
    def rounded(self) -> list[str]:
        """Columns whose numbers have more digits than the result keeps."""
        return [
            target.column.name
            for target in self._targets.values()
            if target.dtype == np.float32 and not np.can_cast(target.column.array.dtype, np.float32)
        ]

    def run(
        self,
        metadata: Mapping[str, Any],
        allocate: Allocate = lambda key, shape, dtype: np.empty(shape, dtype),
        advance: Callable[[int], object] = lambda num_steps: None,
    ) -> Episodes:
        """Decode everything once.

        Args:
            metadata: Added to the file's own.
            allocate: Makes the array of a key, given its shape and type.
            advance: Told the number of steps after each block.

        Raises:
            ValueError: If a column is damaged or the file inconsistent, naming the file.
        """
        cuts = self.file.cuts()
        arrays = {key: allocate(key, t.shape, t.dtype) for key, t in self._targets.items()}
        for rows in blocks(self.num_steps, self._row_bytes, self._multiple):
            # Key by key within a block: formats that store whole episodes decode them only once.
            for key, target in self._targets.items():
                arrays[key][rows] = target.convert(target.column.read(rows))
            advance(rows.stop - rows.start)
        final_observations = self._final_observations(cuts)
        try:
            return Episodes(
                observations=_named(arrays, "observation.", keep=True),
                actions=arrays["action"],
                episode_ends=cuts.episode_ends,
                rewards=arrays.get("reward"),
                terminated=cuts.terminated,
                final_observations=final_observations,
                infos=_named(arrays, "info.", keep=False),
                texts=self.file.texts(),
                metadata={**self._metadata(cuts), **metadata},
                faults=tuple([*rate_faults(self.file, cuts), *self.file.faults(cuts)]),
            )
        except ValueError as error:
            raise ValueError(f"{self.file.path}: {error}") from error

    def _metadata(self, cuts: Cuts) -> dict[str, Any]:
        """The file's own, names of features by hotloop's keys, and what is known of the ends."""
        facts = self.file.metadata()
        stored = facts.pop("feature_names", None)
        stored = dict(stored) if isinstance(stored, Mapping) else {}
        facts.pop("action_features", None)
        if (actions := facts.pop("action_names", None)) is not None:
            stored["action"] = actions
        names = {
            key: found
            for key, selection in self._selections.items()
            if (found := self._feature_names(selection, stored.get(key))) is not None
        }
        if "action" in names:
            facts["action_names"] = names.pop("action")
        elif (features := self._selections["action"].features) is not None:
            # A joint without a name is known by its place in the recording.
            facts["action_features"] = list(features)
        if names:
            facts["feature_names"] = names
        if self._selections["action"].column == ABSOLUTE_COLUMN:
            facts["absolute_actions"] = True
        return {
            **facts,
            "source": self.file.path.name,
            "num_terminated": int(cuts.terminated.sum()),
            "num_unfinished": cuts.num_unfinished,
        }

    def _feature_names(self, selection: Selection, stored: Any) -> list[str] | None:
        """Names of the features that are read, if the file says one for each."""
        names = self.file.feature_names(selection.column)
        if names is None and isinstance(stored, list):
            names = [str(name) for name in stored]
            if selection.features is not None and len(names) == len(selection.features):
                return names  # of the file's own key for these features
        size = self.file.column(selection.column).num_features
        if names is None or len(names) != size:
            return None
        return [names[index] for index in selection.features or range(size)]

    def _final_observations(self, cuts: Cuts) -> dict[str, np.ndarray] | None:
        final = {}
        if not len(cuts.episode_ends) or cuts.episode_ends[-1] != self.num_steps:
            return None
        for key, target in self._targets.items():
            if key.startswith("observation."):
                rows = self.file.final_rows(target.column.name, cuts)
                if rows is None:
                    return None
                final[key] = target.convert(rows)
        return final


class _Target:
    """Where a selection goes: shape and type of the result, and how a block becomes part of it."""

    def __init__(self, key: str, column: Column, selection: Selection) -> None:
        self.key, self.column = key, column
        self._features = selection.features
        num_features = column.num_features if self._features is None else len(self._features)
        self._axes = column.picture_axes if key.startswith("observation.") else None
        if self._features is not None:
            self._axes = None
        self.dtype = np.dtype(np.float32)
        step: tuple[int, ...] = (num_features,)
        if selection.shape is not None:
            step = selection.shape
        if key == "reward":
            if num_features != 1:
                raise ValueError(
                    f"{column.path}: 'reward' must be one number per step, found {num_features} in "
                    f"{column.name!r}"
                )
            step = ()
        elif self._axes is not None:
            step, self.dtype = self._picture_shape(self._axes), np.dtype(np.uint8)
        elif key == INSTRUCTION_KEY:
            self.dtype = np.dtype(np.uint8)
        elif key.startswith("info."):
            self.dtype = column.array.dtype
            if self._features is None and selection.shape is None:
                step = column.shape
        elif column.is_picture and self._features is None:
            step = column.shape
        self.shape = (column.num_steps, *step)

    @property
    def is_picture(self) -> bool:
        """Whether the result is pictures."""
        return self._axes is not None

    def convert(self, block: np.ndarray) -> np.ndarray:
        """Rows as the file has them to rows of the result.

        Raises:
            ValueError: If pictures or texts are not bytes, naming the file and the column.
        """
        if self._axes is not None:
            try:
                return as_pixels(block, self._axes)
            except ValueError as error:
                raise ValueError(
                    f"{self.column.path}: column {self.column.name!r} has the shape of pictures, "
                    f"{self.column.shape}; {error}; choose other columns with keys"
                ) from error
        features = block.reshape(len(block), self.column.num_features)
        if self._features is not None:
            features = features[:, list(self._features)]
        if self.key == INSTRUCTION_KEY and features.dtype != np.uint8:
            self._check_bytes(features)
        # A float64 beyond float32 becomes infinite, which Episodes then reports by step.
        with np.errstate(over="ignore"):
            return features.astype(self.dtype).reshape(len(block), *self.shape[1:])

    def _picture_shape(self, axes: tuple[int, ...]) -> tuple[int, ...]:
        shape = tuple(self.column.shape[axis] for axis in axes)
        return (*shape, 1) if len(shape) == 2 else shape

    def _check_bytes(self, values: np.ndarray) -> None:
        if not ((values >= 0) & (values <= 255) & (values == np.floor(values))).all():
            raise ValueError(
                f"{self.column.path}: {self.key!r} must be text as bytes, or the column 'task' of "
                f"a dataset with tasks; {self.column.name!r} holds other numbers"
            )


def _named(arrays: Mapping[str, np.ndarray], prefix: str, keep: bool) -> dict[str, np.ndarray]:
    """Arrays whose key starts with `prefix`, with or without it."""
    return {
        key if keep else key.removeprefix(prefix): array
        for key, array in arrays.items()
        if key.startswith(prefix)
    }
