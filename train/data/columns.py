"""Columns of a dataset file: numeric arrays with one row per step, decoded only when asked for."""

from __future__ import annotations

import difflib
import struct
import zipfile
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...decoding.plumbing.files import lfs_message
from .episodes import blocks
from .pictures import is_map, picture_axes
from .pointers import find_pointer

# What the decoders raise on damaged bytes: HDF5 OSError, Blosc and Zstandard RuntimeError,
# zip members BadZipFile, EOFError or zlib.error, a wrong number of bytes or bad JSON ValueError.
# The others come from metadata that has the right syntax and means nothing.
DECODE_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    SyntaxError,
    AssertionError,
)


@contextmanager
def naming(path: Path, what: str) -> Generator[None, None, None]:
    """Context in which whatever decoders raise becomes one ValueError that names the file.

    Args:
        path: The dataset.
        what: What cannot be done, e.g. ``"cannot be opened"``.

    Raises:
        ValueError: Instead of any of `DECODE_ERRORS`.
    """
    try:
        yield
    except DECODE_ERRORS as error:
        text = str(error)
        if isinstance(error, ValueError) and text.startswith(str(path)):
            raise
        if (pointer := find_pointer(path)) is not None:
            raise ValueError(lfs_message(pointer)) from error
        raise ValueError(f"{path}: {what}: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """An exception's text in one line, with its type where the text alone says nothing."""
    text = " ".join(str(error).split())
    if isinstance(error, (OSError, ValueError, zipfile.BadZipFile)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


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


class ConcatenatedArray:
    """Arrays of several episodes, read as one.

    Args:
        parts: Name in the file and array of each part, in order.

    Raises:
        ValueError: If the parts do not hold the same kind of step.
    """

    def __init__(self, parts: Mapping[str, StoredArray]) -> None:
        self._names, self._parts = list(parts), list(parts.values())
        first = self._parts[0]
        for name, part in parts.items():
            if tuple(part.shape[1:]) != tuple(first.shape[1:]):
                raise ValueError(
                    f"{name!r} has steps of shape {tuple(part.shape[1:])}, but {self._names[0]!r} "
                    f"of shape {tuple(first.shape[1:])}"
                )
        self._borders = np.cumsum([0, *(part.shape[0] for part in self._parts)])
        self.shape = (int(self._borders[-1]), *first.shape[1:])
        self.dtype = np.result_type(*{part.dtype for part in self._parts})

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Decode some rows, from as many parts as it takes."""
        start, stop, _ = rows.indices(self.shape[0])
        out = np.empty((max(stop - start, 0), *self.shape[1:]), self.dtype)
        index = int(np.searchsorted(self._borders, start, side="right")) - 1
        while start < stop:
            begin, end = self._borders[index], self._borders[index + 1]
            until = min(stop, int(end))
            try:
                piece = self._parts[index][slice(start - begin, until - begin)]
            except DECODE_ERRORS as error:
                raise ValueError(f"{self._names[index]!r}: {describe(error)}") from error
            out[start - rows.start : until - rows.start] = piece
            start, index = until, index + 1
        return out


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

    @property
    def num_features(self) -> int:
        """Numbers in one step."""
        return int(np.prod(self.shape))

    @property
    def picture_axes(self) -> tuple[int, ...] | None:
        """Order in which a step's axes are height, width, channels; None if it is no picture."""
        return picture_axes(self.shape, self.array.dtype)

    @property
    def is_picture(self) -> bool:
        """Whether a step is a picture, or a map such as depth: not what a state is made of."""
        return self.picture_axes is not None or is_map(self.shape, self.array.dtype)

    @property
    def faults(self) -> tuple[str, ...]:
        """Why the column cannot be read, known without decoding it: videos that are absent."""
        return tuple(getattr(self.array, "faults", ()))

    @property
    def row_bytes(self) -> int:
        """Size of one decoded step [bytes]."""
        return self.array.dtype.itemsize * self.num_features

    @property
    def rows_per_chunk(self) -> int:
        """Steps that are decoded together."""
        chunks = getattr(self.array, "chunks", None)
        return chunks[0] if chunks else 1

    def blocks(self) -> Iterator[slice]:
        """Yield row ranges of about 16 MiB that together cover the column, on chunk borders."""
        return blocks(self.num_steps, self.row_bytes, self.rows_per_chunk)

    def read(self, rows: slice | None = None) -> np.ndarray:
        """Decode `rows`, or everything; raise ValueError naming the first damaged chunk."""
        rows = slice(0, self.num_steps) if rows is None else rows
        if self.faults:
            raise ValueError(f"{self.path}: {self.faults[0]}")
        try:
            block = np.asarray(self.array[rows])
            expected = (rows.stop - rows.start, *self.shape)
            if block.shape != expected:
                raise ValueError(f"found values of shape {block.shape}, expected {expected}")
            return block
        except DECODE_ERRORS as error:
            if (pointer := find_pointer(self.path)) is not None:
                raise ValueError(lfs_message(pointer)) from error
            start, stop = self._first_damaged_chunk(rows)
            raise ValueError(
                f"{self.path}: column {self.name!r} cannot be decoded at steps {start} to "
                f"{stop - 1} of {self.num_steps}: {describe(error)}; the file is damaged or "
                "incomplete, copy it again"
            ) from error

    def _first_damaged_chunk(self, rows: slice) -> tuple[int, int]:
        chunk = self.rows_per_chunk
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
