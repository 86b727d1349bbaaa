"""Zarr arrays whose chunks are compressed with Blosc, which itself reads beyond cut chunks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_HEADER = struct.Struct("<12xI")  # the last field is the size of the chunk [bytes]


def uses_blosc(array: Any) -> bool:
    """Whether files of an array's folder are Blosc's, one for each chunk."""
    names = [type(codec).__name__ for codec in getattr(array, "compressors", ())]
    return "BloscCodec" in names or "Blosc" in names


class BloscArray:
    """A zarr array in a folder that checks the size of each chunk before it is decoded.

    Args:
        array: The array.
        folder: Where its chunks are.
    """

    def __init__(self, array: Any, folder: Path) -> None:
        self._array, self._folder = array, folder
        self.shape, self.dtype = tuple(array.shape), array.dtype
        self.chunks = tuple(array.chunks)

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Decode some rows; raise ValueError naming a chunk that is not whole."""
        start, stop, _ = rows.indices(self.shape[0])
        for number in range(start // self.chunks[0], -(-stop // self.chunks[0])):
            for file in self._files(number):
                _check(file)
        return np.asarray(self._array[start:stop])

    def _files(self, number: int) -> Iterator[Path]:
        """Files of the chunks at a position along the first axis, of any of zarr's layouts."""
        folder = self._folder / "c" if (self._folder / "zarr.json").exists() else self._folder
        yield from folder.glob(f"{number}.*")
        single = folder / str(number)
        if single.is_file():
            yield single
        elif single.is_dir():
            yield from (file for file in single.rglob("*") if file.is_file())


def _check(file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        header = stream.read(_HEADER.size)
    stated = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else None
    if stated != size:
        raise ValueError(f"chunk {file.name} has {size} bytes, by its header {stated}")
