"""Buffers of diffusion_policy: ``.zarr`` folders, ``.zarr.zip`` and flat ``.npz`` files.

Layout (Chi et al. 2023, also used by UMI): arrays ``data/NAME`` with one row per step and
``meta/episode_ends`` with the exclusive end of each episode. The npz holds the same arrays
without the two groups. Zarr files that hotloop writes are of zarr's format 2, which that project
reads, and add what it ignores: ``meta/terminated``, ``meta/final/NAME`` (what was seen after the
last action of each episode), and the JSON attributes ``keys`` (hotloop's key of each array) and
``metadata`` of the root. Chunks that are absent hold the array's fill value, except in files of
hotloop's, which has written all of them.
"""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ....decoding.plumbing.extras import require
from ..columns import StoredArray
from ..episodes import BLOCK_BYTES, Episodes, blocks
from ..selection import Selection
from ..source import Cuts, DatasetFile
from .blosc import BloscArray, uses_blosc
from .format import Advance, Format

ZARR_SUFFIXES = (".zarr", ".zarr.zip")
_META = ("episode_ends", "terminated")
_FINAL = "final/"
_MOST_EMPTY = 1000  # chunks per stored one; an array that declares more of them is damaged


class ZarrBufferFile(DatasetFile):
    """An open buffer; see the module's text."""

    layout = "zarr"
    action_column = "action"
    task_column = "info.task_index"
    bookkeeping = _META

    def __init__(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> None:
        super().__init__(path, options, resources)
        self._attributes: dict[str, Any] = {}
        self._sparse: dict[str, str] = {}
        if path.suffix == ".npz":
            self._open_npz(resources)
        else:
            self._open_zarr(resources)

    @property
    def names(self) -> tuple[str, ...]:
        """Arrays of both groups, but for what was seen last."""
        return tuple(name for name in self._all if not name.startswith(_FINAL))

    def open_array(self, name: str) -> StoredArray:
        """Open an array; absent chunks are an error where hotloop has written them."""
        return self._open(name)

    def cuts(self) -> Cuts:
        """Ends as stored; without ``terminated``, no episode ended in a terminal state."""
        ends = self.column("episode_ends").read()
        if ends.dtype.kind not in "iu" or ends.ndim != 1:
            raise ValueError(
                f"{self.path}: column 'episode_ends' must be a list of integers, found "
                f"{ends.dtype} of shape {ends.shape}"
            )
        terminated = np.zeros(len(ends), bool)
        if "terminated" in self.names:
            terminated = self.column("terminated").read().astype(bool)
        return Cuts(ends.astype(np.int64), terminated)

    def default_keys(self) -> dict[str, Selection]:
        """Every array under its name as an observation, or under the keys that hotloop wrote."""
        declared = self._attributes.get("keys")
        if isinstance(declared, dict):
            columns = {key: self.column(name) for key, name in declared.items()}
            return {
                key: Selection(column.name, shape=column.shape) for key, column in columns.items()
            }
        names = [name for name in self.names if name not in ("action", *_META)]
        observations = {f"observation.{name}": Selection(name) for name in names}
        return {"action": Selection("action"), **observations}

    def metadata(self) -> dict[str, Any]:
        """Provenance that hotloop wrote into the file, empty in other files."""
        return dict(self._attributes.get("metadata") or {})

    def final_rows(self, name: str, cuts: Cuts) -> np.ndarray | None:
        """Rows of ``meta/final/NAME``."""
        if f"{_FINAL}{name}" not in self._all:
            return None
        rows = np.asarray(self._open(f"{_FINAL}{name}")[:])
        if len(rows) != len(cuts.episode_ends):
            raise ValueError(
                f"'meta/final/{name}' has {len(rows)} rows, but there are {len(cuts.episode_ends)} "
                "episodes"
            )
        return rows

    def timestamps(self) -> np.ndarray | None:
        """The column ``timestamp``, as UMI has it, if it has one number per step."""
        if "timestamp" not in self.names or self.column("timestamp").num_features != 1:
            return None
        return self.column("timestamp").read().reshape(-1)

    def notes(self) -> Iterator[str]:
        """Chunks that are not stored."""
        for name in self.names:
            self._open(name)
        yield from self._sparse.values()

    def _open_npz(self, resources: ExitStack) -> None:
        if not zipfile.is_zipfile(self.path):
            raise ValueError(
                "not a complete npz archive; it is truncated or another kind of file (pickles are "
                "never opened)"
            )
        # np.load would leave a file that it opens itself open when the archive is damaged.
        stream = resources.enter_context(self.path.open("rb"))
        # Unpickling runs code from the file, so object arrays are refused.
        archive = resources.enter_context(np.load(stream, allow_pickle=False))
        self._all, self._open = tuple(archive.files), archive.__getitem__

    def _open_zarr(self, resources: ExitStack) -> None:
        zarr = require("zarr", "zarr")
        path = self.path
        zipped = path.suffix == ".zip"
        if zipped and not zipfile.is_zipfile(path):
            raise ValueError("not a complete zip archive; it is truncated, copy it again")
        root = zipfile.Path(path) if zipped else path
        paths = _array_paths(root)
        if not paths:
            found = sorted(child.name for child in root.iterdir()) if root.is_dir() else "a file"
            raise ValueError(
                "not a buffer of diffusion_policy; expected 'data/' and 'meta/episode_ends', found "
                f"{found}"
            )
        store = zarr.storage.ZipStore(path, mode="r") if zipped else zarr.storage.LocalStore(path)
        # Opens the store, which could not be closed otherwise. Consolidated metadata would parse
        # every column, also those whose codec is not installed.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            group = zarr.open_group(store, mode="r", use_consolidated=False)
        resources.callback(store.close)
        self._attributes = dict(group.attrs)
        self._all = tuple(paths)
        # Once: opening reads and counts files, and a column is asked for again and again.
        self._open = cache(lambda name: self._open_zarr_array(zarr, store, name, paths[name]))

    def _open_zarr_array(self, zarr: Any, store: Any, name: str, array_path: str) -> Any:
        with warnings.catch_warnings():
            # Of metadata that only another version of zarr would write.
            warnings.simplefilter("ignore")
            array = zarr.open_array(store, path=array_path, mode="r")
        stored = array.nchunks_initialized
        missing = array.nchunks - stored
        if self.path.is_dir() and array.ndim and uses_blosc(array):
            checked: Any = BloscArray(array, self.path / array_path)
        else:
            checked = array
        if not missing:
            return checked
        found = f"{missing} of {array.nchunks} chunks are absent"
        if "keys" in self._attributes:
            raise ValueError(f"{found}, all of which were written; copy the file again")
        if array.fill_value is None or array.nchunks > _MOST_EMPTY * (stored + 1):
            raise ValueError(f"{found} and nothing says what they hold; copy the file again")
        value = np.asarray(array.fill_value).item()
        self._sparse[name] = f"column {name!r}: {found} and read as {value:g}, their fill value"
        return checked


def _array_paths(root: Path | zipfile.Path) -> dict[str, str]:
    """Column name to array path, found by file names so that unused codecs are not needed."""
    paths = {}
    for group, prefix in (("data", ""), ("meta", ""), ("meta/final", _FINAL)):
        folder = root / group
        for child in sorted(folder.iterdir(), key=str) if folder.is_dir() else ():
            if (child / ".zarray").exists() or _is_array(child / "zarr.json"):
                paths[f"{prefix}{child.name}"] = f"{group}/{child.name}"
    return paths


def _is_array(file: Path | zipfile.Path) -> bool:
    """Whether a description of zarr's format 3 is not that of a group."""
    if not file.exists():
        return False
    try:
        return json.loads(file.read_text()).get("node_type") != "group"
    except (ValueError, AttributeError):
        return True  # zarr says what is wrong with it


class ZarrBufferFormat(Format):
    """Buffers of diffusion_policy; see the module's text."""

    name = "zarr"
    description = "diffusion_policy's .zarr folder, .zarr.zip or .npz"
    suffixes = ZARR_SUFFIXES
    keeps = frozenset({"terminated", "final_observations", "pictures"})
    parts = re.compile(r"(data|meta)/.*|\.z(group|attrs|metadata)|zarr\.json")
    is_writable = True

    def recognise(self, path: Path) -> bool:
        """By suffix."""
        return path.name.endswith((*self.suffixes, ".npz"))

    def open(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> ZarrBufferFile:
        """Open a folder or file."""
        return ZarrBufferFile(path, options, resources)

    def write(self, partial: Path, episodes: Episodes, path: Path, advance: Advance) -> None:
        """Write a new ``.zarr`` folder or, if the name ends in ``.zip``, one stored archive.

        An observation ``observation.NAME`` becomes ``data/NAME``; rewards become ``data/reward``.
        """
        del path
        zarr = require("zarr", "zarr").storage
        zipped = partial.suffix == ".zip"
        store = zarr.ZipStore(partial, mode="w") if zipped else zarr.LocalStore(partial)
        try:
            _write(store, episodes, advance)
        finally:
            store.close()


FORMAT = ZarrBufferFormat()


def _write(store: Any, episodes: Episodes, advance: Advance) -> None:
    arrays = {"action": episodes.actions, **episodes.observations}
    if episodes.rewards is not None:
        arrays["reward"] = episodes.rewards
    arrays |= {f"info.{name}": array for name, array in episodes.infos.items()}
    names = {key: key.removeprefix("observation.").replace("/", ".") for key in arrays}
    if len(set(names.values()) | set(_META)) != len(names) + len(_META):
        raise ValueError(f"observation keys {sorted(arrays)} collide without their prefix")
    attributes = {"keys": names, "metadata": json.loads(json.dumps(dict(episodes.metadata)))}
    # At once: a zip archive would keep the attributes that an update replaces.
    root = require("zarr", "zarr").create_group(store, zarr_format=2, attributes=attributes)
    for key, array in arrays.items():
        _write_array(root, f"data/{names[key]}", array)
        advance(episodes.num_steps // len(arrays))
    _write_array(root, "meta/episode_ends", episodes.episode_ends.astype(np.int64))
    _write_array(root, "meta/terminated", episodes.terminated)
    for key, array in (episodes.final_observations or {}).items():
        _write_array(root, f"meta/{_FINAL}{names[key]}", array)


def _write_array(root: Any, name: str, array: np.ndarray) -> None:
    import numcodecs

    row_bytes = array.itemsize * int(np.prod(array.shape[1:]))
    chunk = min(len(array), max(1, BLOCK_BYTES // 16 // row_bytes))
    stored = root.create_array(
        name,
        shape=array.shape,
        dtype=array.dtype,
        chunks=(chunk, *array.shape[1:]),
        compressors=numcodecs.Blosc("zstd", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE),
        # Absent chunks are how readers notice a damaged copy.
        config={"write_empty_chunks": True},
    )
    for rows in blocks(len(array), row_bytes, chunk):
        stored[rows] = array[rows]
