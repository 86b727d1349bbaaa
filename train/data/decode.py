"""From an open dataset file to `Episodes`: one pass, block by block, into memory or into files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .columns import Column
from .episodes import Episodes, blocks, check_lengths
from .source import Cuts, DatasetFile, Selection

Allocate = Callable[[str, tuple[int, ...], np.dtype[Any]], np.ndarray]


class Decoding:
    """What is to be read from a file, and how large it will be.

    Args:
        file: Open dataset.
        selections: What to read, from `DatasetFile.select`.

    Raises:
        ValueError: If a column does not exist or does not fit the others, naming the file.
    """

    def __init__(self, file: DatasetFile, selections: Mapping[str, Selection]) -> None:
        self.file = file
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
        return sum(t.dtype.itemsize * int(np.prod(t.shape)) for t in targets)

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
        facts = {
            "source": self.file.path.name,
            "num_terminated": int(cuts.terminated.sum()),
            "num_unfinished": cuts.num_unfinished,
        }
        try:
            return Episodes(
                observations=_named(arrays, "observation.", keep=True),
                actions=arrays["action"],
                episode_ends=cuts.episode_ends,
                rewards=arrays.get("reward"),
                terminated=cuts.terminated,
                final_observations=final_observations,
                infos=_named(arrays, "info.", keep=False),
                metadata={**self.file.metadata(), **facts, **metadata},
            )
        except ValueError as error:
            raise ValueError(f"{self.file.path}: {error}") from error

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
        self._features = slice(selection.start, selection.stop)
        num_features = len(range(column.num_features)[self._features])
        whole = num_features == column.num_features
        # Single floats per pixel are depths [m], and not brightnesses.
        pixels = column.is_image and (column.array.dtype.kind in "iu" or column.shape[2] > 1)
        self._is_image = key.startswith("observation.") and pixels and whole
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
        elif self._is_image:
            step, self.dtype = column.shape, np.dtype(np.uint8)
        elif key.startswith("info."):
            self.dtype = column.array.dtype
            if whole and selection.shape is None:
                step = column.shape
        self.shape = (column.num_steps, *step)

    def convert(self, block: np.ndarray) -> np.ndarray:
        """Rows as the file has them to rows of the result."""
        if self._is_image:
            return self._as_image(block)
        features = block.reshape(len(block), self.column.num_features)[:, self._features]
        # A float64 beyond float32 becomes infinite, which Episodes then reports by step.
        with np.errstate(over="ignore"):
            return features.astype(self.dtype).reshape(len(block), *self.shape[1:])

    def _as_image(self, block: np.ndarray) -> np.ndarray:
        """Float images, as diffusion_policy stores them, must be whole numbers of 0 to 255."""
        if block.dtype == np.uint8:
            return block
        valid = (block >= 0) & (block <= 255)
        pixels = np.where(valid, block, 0).astype(np.uint8)
        if not valid.all() or not np.array_equal(pixels, block):
            raise ValueError(
                f"{self.column.path}: column {self.column.name!r} has the shape of images, "
                f"{self.column.shape}; pixels must be whole numbers from 0 to 255, found "
                f"{block.min():.6g} to {block.max():.6g}"
            )
        return pixels


def _named(arrays: Mapping[str, np.ndarray], prefix: str, keep: bool) -> dict[str, np.ndarray]:
    """Arrays whose key starts with `prefix`, with or without it."""
    return {
        key if keep else key.removeprefix(prefix): array
        for key, array in arrays.items()
        if key.startswith(prefix)
    }
