"""Columns of a dataset file: numeric arrays with one row per step, decoded only when asked for."""

from __future__ import annotations

import difflib
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .episodes import Episodes

# What the decoders raise on damaged bytes: HDF5 OSError, Blosc and Zstandard RuntimeError,
# zip members BadZipFile, EOFError or zlib.error, a wrong number of bytes or bad JSON ValueError.
DECODE_ERRORS = (OSError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)

_BLOCK_BYTES = 2**24
_SELECTOR = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<start>\d*):(?P<stop>\d*)\])?")


class StoredArray(Protocol):
    """What a numpy, zarr or HDF5 array has in common."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of steps, then the shape of one step."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type."""
        ...

    def __getitem__(self, rows: slice, /) -> Any:
        """Decode some rows."""
        ...


@dataclass(frozen=True)
class Column:
    """One array of a dataset file.

    Attributes:
        path: The file, for error messages.
        name: Name of the array in the file.
        array: The array, not decoded yet, shape (T, *shape).
    """

    path: Path
    name: str
    array: StoredArray

    @property
    def num_steps(self) -> int:
        """Number of rows T."""
        return self.array.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one step."""
        return tuple(self.array.shape[1:])

    def blocks(self) -> Iterator[slice]:
        """Yield row ranges of about 16 MiB that together cover the column, on chunk borders."""
        row_bytes = max(1, self.array.dtype.itemsize * int(np.prod(self.shape)))
        chunk = self._rows_per_chunk
        num_rows = chunk * max(1, _BLOCK_BYTES // (chunk * row_bytes))
        for start in range(0, self.num_steps, num_rows):
            yield slice(start, min(start + num_rows, self.num_steps))

    def read(self, rows: slice | None = None) -> np.ndarray:
        """Decode `rows`, or everything; raise ValueError naming the first damaged chunk."""
        rows = slice(0, self.num_steps) if rows is None else rows
        try:
            return np.asarray(self.array[rows])
        except DECODE_ERRORS as error:
            start, stop = self._first_damaged_chunk(rows)
            raise ValueError(
                f"{self.path}: column {self.name!r} cannot be decoded at steps {start} to "
                f"{stop - 1} of {self.num_steps}; the file is damaged or incomplete, copy it "
                f"again ({error})"
            ) from error

    @property
    def _rows_per_chunk(self) -> int:
        chunks = getattr(self.array, "chunks", None)
        return chunks[0] if chunks else 1

    def _first_damaged_chunk(self, rows: slice) -> tuple[int, int]:
        chunk = self._rows_per_chunk
        if chunk > 1:
            for start in range(rows.start, rows.stop, chunk):
                stop = min(start + chunk, rows.stop)
                try:
                    self.array[start:stop]
                except DECODE_ERRORS:
                    return start, stop
        return rows.start, rows.stop


def require_path(path: Path | str) -> Path:
    """Return `path` if it exists; raise FileNotFoundError naming its nearest neighbours if not."""
    path = Path(path)
    if path.exists():
        return path
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{path}: no such file, nor a folder {str(folder)!r}")
    names = sorted(child.name for child in folder.iterdir())
    nearest = difflib.get_close_matches(path.name, names, n=3)
    hint = f"; nearest names there: {', '.join(nearest)}" if nearest else ""
    raise FileNotFoundError(f"{path}: no such file{hint}")


@dataclass(frozen=True)
class ColumnFile:
    """An open dataset file.

    Attributes:
        path: The file.
        layout: "replay" for diffusion_policy's replay buffers, "d4rl" for D4RL's flat HDF5.
        names: Every column in the file.
        open_array: Opens one column without decoding it.
        attributes: Attributes of the file and its columns that a reader may need.
    """

    path: Path
    layout: str
    names: tuple[str, ...]
    open_array: Callable[[str], StoredArray]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def column(self, name: str) -> Column:
        """Open column `name`; raise ValueError if it is absent, not numeric or incomplete."""
        if name not in self.names:
            raise ValueError(
                f"{self.path}: no column {name!r}; the file has {', '.join(self.names) or 'none'}"
            )
        try:
            array = self.open_array(name)
            shape, dtype = tuple(array.shape), array.dtype
        # zarr takes array metadata as keyword arguments: damaged names are TypeErrors or KeyErrors.
        except (*DECODE_ERRORS, KeyError, TypeError) as error:
            raise ValueError(f"{self.path}: column {name!r} cannot be opened: {error}") from error
        if dtype.kind not in "biuf" or not shape:
            raise ValueError(
                f"{self.path}: column {name!r} must hold numbers, one row per step; found "
                f"{dtype} of shape {shape}"
            )
        return Column(self.path, name, array)

    def select(self, selector: str) -> np.ndarray:
        """Read a column as shape (T, F), float32.

        Args:
            selector: A column name, e.g. ``"keypoint"``, or a range of its features, e.g.
                ``"state[:2]"``. What a step holds is flattened first.

        Raises:
            ValueError: If the column or the range does not exist, or cannot be decoded.
        """
        match = _SELECTOR.fullmatch(selector)
        if match is None:
            raise ValueError(
                f"{self.path}: column selector must look like 'state' or 'state[0:2]', "
                f"got {selector!r}"
            )
        column = self.column(match["name"])
        num_features = int(np.prod(column.shape))
        start = int(match["start"] or 0)
        stop = int(match["stop"] or num_features)
        if not 0 <= start < stop <= num_features:
            raise ValueError(
                f"{self.path}: {selector!r} is out of range, column {match['name']!r} has "
                f"{num_features} features"
            )
        features = column.read().reshape(column.num_steps, num_features)[:, start:stop]
        # A float64 beyond float32 becomes infinite, which Episodes then reports by step.
        with np.errstate(over="ignore"):
            return features.astype(np.float32)


def select_columns(file: ColumnFile, keys: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Read the columns that `keys` selects, each of shape (T, F), float32.

    Args:
        file: Open dataset file.
        keys: From ``action``, ``reward`` and ``observation.*`` to column selectors.

    Raises:
        ValueError: If `keys` is not usable, naming the file and the key.
    """
    observations = [key for key in keys if key.startswith("observation.")]
    unknown = set(keys) - {"action", "reward", *observations}
    if unknown or "action" not in keys or not observations:
        raise ValueError(
            f"{file.path}: keys must be 'action', at least one 'observation.NAME' and optionally "
            f"'reward', got {sorted(keys)}"
        )
    arrays = {key: file.select(selector) for key, selector in keys.items()}
    if "reward" in arrays and arrays["reward"].shape[1] != 1:
        raise ValueError(
            f"{file.path}: 'reward' must be one number per step, found "
            f"{arrays['reward'].shape[1]} in {keys['reward']!r}"
        )
    return arrays


def build_episodes(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    episode_ends: np.ndarray,
    metadata: Mapping[str, Any],
) -> Episodes:
    """Cut the arrays of `select_columns` into episodes; raise ValueError naming `path`."""
    reward = arrays.get("reward")
    try:
        return Episodes(
            observations={key: arrays[key] for key in arrays if key.startswith("observation.")},
            actions=arrays["action"],
            episode_ends=episode_ends,
            rewards=None if reward is None else reward[:, 0],
            metadata=metadata,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
