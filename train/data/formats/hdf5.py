"""What the formats in HDF5 files share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HDF5_SUFFIXES = (".hdf5", ".h5")
# A dataset that declares so many times more bytes than are stored for it is damaged; no filter of
# HDF5 packs numbers that tightly.
_MOST_PACKED, _SLACK = 1100, 2**24
_CHECKSUM = 4  # bytes of a chunk that are its checksum


_PACKED = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "packed by gzip"}


def open_hdf5(path: Path, resources: ExitStack) -> Any:
    """Open a file to read; h5py's types leave open whether an item is a group or a dataset.

    Raises:
        ValueError: If it is empty, or an archive under the name of an HDF5 file.
        OSError: If it is damaged.
    """
    import h5py

    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        raise ValueError("the file is empty; copy it again")
    if found := [what for mark, what in _PACKED.items() if start.startswith(mark)]:
        raise ValueError(f"the file is {found[0]}, expected HDF5; unpack it first")
    return resources.enter_context(h5py.File(path, "r"))


def is_dataset(item: object) -> bool:
    """Whether an item is an array, rather than a group or a link that leads nowhere."""
    import h5py

    return isinstance(item, h5py.Dataset)


def check_size(dataset: Any) -> None:
    """Raise ValueError if a dataset declares far more numbers than the file holds.

    Nor may a chunk be empty or lie beyond the file: HDF5's filters read them all the same, and the
    process dies.
    """
    end, least = dataset.file.id.get_filesize(), _CHECKSUM if dataset.fletcher32 else 0

    def is_damaged(info: Any) -> bool | None:
        return True if not least < info.size <= end - info.byte_offset else None

    if dataset.chunks and dataset.id.chunk_iter(is_damaged):
        raise ValueError("a chunk of the array has no place in the file")
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > _MOST_PACKED * stored + _SLACK:
        raise ValueError(
            f"the file declares an array of shape {dataset.shape}, but holds {stored} bytes of it"
        )


def top_names(source: Any, group: str) -> list[str]:
    """Paths of everything in a group of an open file, or of one that is opened for this.

    Returns:
        ``GROUP/NAME`` and, below, ``GROUP/NAME/...``; nothing if there is no such group or the
        file cannot be opened, which its reader then says.
    """
    import h5py

    if isinstance(source, Path):
        try:
            with h5py.File(source, "r") as file:
                return top_names(file, group)
        except (OSError, RuntimeError, KeyError):
            return []
    found = source.get(group)
    return list(_below(group, found)) if isinstance(found, h5py.Group) else []


def _below(prefix: str, group: Any) -> Iterator[str]:
    yield prefix
    for name, item in group.items():
        if hasattr(item, "items"):
            yield from _below(f"{prefix}/{name}", item)
        elif getattr(item, "shape", ()) != ():
            yield f"{prefix}/{name}"


def json_attribute(item: Any, name: str) -> dict[str, Any] | None:
    """A JSON object in an attribute; None if there is none or it is null.

    Raises:
        ValueError: If it is something else.
    """
    text = item.attrs.get(name)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"attribute {name!r} is not JSON: {str(text)[:200]!r}") from error
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"attribute {name!r} must be a JSON object, found {str(value)[:200]}")
    return value


def dataset_names(group: Any) -> Iterator[str]:
    """Paths of the datasets of a demonstration, such as ``obs/KEY``."""
    for name, item in group.items():
        if is_dataset(item):
            yield name
        elif hasattr(item, "items"):
            yield from (f"{name}/{inner}" for inner in dataset_names(item))
