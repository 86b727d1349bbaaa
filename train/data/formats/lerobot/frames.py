"""Columns in the parquet files of a LeRobotDataset: numbers, and pictures as encoded files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...encoded_pictures import decode_picture, decode_pictures


class _Part:
    """A column of one parquet file; the last row group read is kept."""

    def __init__(self, file: Any, name: str) -> None:
        if name not in file.schema_arrow.names:
            raise ValueError(f"the parquet file has no column {name!r}")
        self._file, self._name = file, name
        self.num_rows = file.metadata.num_rows
        groups = range(file.metadata.num_row_groups)
        self._borders = np.cumsum([0, *(file.metadata.row_group(g).num_rows for g in groups)])
        self._kept: tuple[int, Any] = (-1, None)

    def _values(self, rows: slice) -> Iterator[Any]:
        """Yield arrow arrays that together hold `rows`."""
        first = int(np.searchsorted(self._borders, rows.start, side="right")) - 1
        while first < len(self._borders) - 1 and self._borders[first] < rows.stop:
            begin, end = self._borders[first], self._borders[first + 1]
            start, stop = max(rows.start, begin) - begin, min(rows.stop, end) - begin
            yield self._group(first).slice(start, stop - start)
            first += 1

    def _group(self, index: int) -> Any:
        if self._kept[0] != index:
            column = self._file.read_row_group(index, columns=[self._name]).column(0)
            self._kept = (index, column.combine_chunks())
        return self._kept[1]

    def _first(self) -> Any:
        """The first cell in an arrow array, None if there are no rows."""
        return next(self._values(slice(0, 1)), None) if self.num_rows else None


class Numbers(_Part):
    """Numbers, or lists of numbers of one length.

    Args:
        file: Open parquet file.
        name: Column.
        declared: Shape that ``info.json`` declares; taken where the cells have as many numbers.

    Attributes:
        shape: Of the data, whatever is declared.
        dtype: As above.
    """

    def __init__(self, file: Any, name: str, declared: tuple[int, ...]) -> None:
        super().__init__(file, name)
        first = self._first()
        values = None if first is None else self._flat(first)
        self.dtype = np.dtype(np.float32) if values is None else values.dtype
        size = int(np.prod(declared)) if values is None else len(values)
        step = declared if size == int(np.prod(declared)) else (size,)
        self.shape = (self.num_rows, *step)

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Decode some rows."""
        pieces = []
        for values in self._values(rows):
            numbers, num_rows = self._flat(values), len(values)
            expected = num_rows * int(np.prod(self.shape[1:]))
            if len(numbers) != expected:
                raise ValueError(
                    f"{self._name!r} has {len(numbers)} numbers in {num_rows} rows, expected "
                    f"{expected}: the rows differ in length"
                )
            pieces.append(numbers.reshape(num_rows, *self.shape[1:]))
        if not pieces:
            return np.empty((0, *self.shape[1:]), self.dtype)
        return np.concatenate(pieces).astype(self.dtype, copy=False)

    def _flat(self, values: Any) -> np.ndarray:
        """All numbers of some rows, one after the other."""
        values = getattr(values, "storage", values)
        while True:
            if values.null_count:
                raise ValueError(f"{self._name!r} has {values.null_count} empty cells")
            if "list" not in str(values.type).split("<", maxsplit=1)[0]:
                break
            values = values.flatten()
        numbers = values.to_numpy(zero_copy_only=False)
        if numbers.dtype.kind not in "biuf":
            raise ValueError(f"{self._name!r} must hold numbers, found {values.type}")
        return numbers


class Pictures(_Part):
    """Pictures stored as encoded files, one per cell, as bytes of (height, width, channels)."""

    dtype = np.dtype(np.uint8)

    def __init__(self, file: Any, name: str, declared: tuple[int, ...]) -> None:
        super().__init__(file, name)
        first = self._first()
        step = declared if first is None else decode_picture(self._bytes(first[0].as_py())).shape
        self.shape = (self.num_rows, *step)

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Decode some rows."""
        cells = [cell for values in self._values(rows) for cell in values.to_pylist()]
        return decode_pictures([self._bytes(cell) for cell in cells], self.shape[1:])

    def _bytes(self, cell: Any) -> bytes:
        if not isinstance(cell, dict) or not cell.get("bytes"):
            raise ValueError(f"{self._name!r} has a cell without the bytes of a picture")
        return cell["bytes"]
