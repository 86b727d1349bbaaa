"""Replay buffers of diffusion_policy: ``.zarr`` folders, ``.zarr.zip`` and flat ``.npz`` files.

Layout (Chi et al. 2023, also used by UMI): arrays ``data/NAME`` with one row per step and
``meta/episode_ends`` with the exclusive end of each episode. The npz holds the same arrays
without the two groups. Zarr files that hotloop writes are of zarr's format 2, which that project
reads, and add what it ignores: ``meta/terminated``, and the JSON attributes ``keys`` (hotloop's
key of each array) and ``metadata`` of the root.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ..columns import StoredArray
from ..episodes import BLOCK_BYTES, Episodes, blocks
from ..source import Cuts, DatasetFile, ReadOptions, Selection

REPLAY_SUFFIXES = (".zarr", ".zarr.zip", ".npz")
_META = ("episode_ends", "terminated")


class ReplayFile(DatasetFile):
    """An open replay buffer; see the module's text."""

    layout = "replay"
    action_column = "action"

    def __init__(self, path: Path, options: ReadOptions, resources: ExitStack) -> None:
        super().__init__(path, options, resources)
        self._attributes: dict[str, Any] = {}
        if path.suffix == ".npz":
            self._open_npz(resources)
        else:
            self._open_zarr(resources)

    @property
    def names(self) -> tuple[str, ...]:
        """Arrays of both groups."""
        return self._names

    def open_array(self, name: str) -> StoredArray:
        """Open an array; absent chunks of a zarr array are an error."""
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
            return {key: Selection(c.name, shape=c.shape) for key, c in columns.items()}
        names = [name for name in self.names if name not in ("action", *_META)]
        observations = {f"observation.{name}": Selection(name) for name in names}
        return {"action": Selection("action"), **observations}

    def metadata(self) -> dict[str, Any]:
        """Provenance that hotloop wrote into the file, empty in other files."""
        return dict(self._attributes.get("metadata") or {})

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
        self._names, self._open = tuple(archive.files), archive.__getitem__

    def _open_zarr(self, resources: ExitStack) -> None:
        zarr = import_zarr("reading")
        path = self.path
        zipped = path.suffix == ".zip"
        if zipped and not zipfile.is_zipfile(path):
            raise ValueError("not a complete zip archive; it is truncated, copy it again")
        root = zipfile.Path(path) if zipped else path
        paths = _array_paths(root)
        if not paths:
            found = sorted(child.name for child in root.iterdir()) if root.is_dir() else "a file"
            raise ValueError(
                f"not a replay buffer; expected 'data/' and 'meta/episode_ends', found {found}"
            )
        store = zarr.storage.ZipStore(path, mode="r") if zipped else zarr.storage.LocalStore(path)
        # Opens the store, which could not be closed otherwise. Consolidated metadata would parse
        # every column, also those whose codec is not installed.
        group = zarr.open_group(store, mode="r", use_consolidated=False)
        resources.callback(store.close)
        self._attributes = dict(group.attrs)
        self._names = tuple(paths)
        self._open = lambda name: _open_zarr_array(zarr, store, paths[name])


def _array_paths(root: Path | zipfile.Path) -> dict[str, str]:
    """Column name to array path, found by file names so that unused codecs are not needed."""
    paths = {}
    for group in ("data", "meta"):
        folder = root / group
        for child in sorted(folder.iterdir(), key=str) if folder.is_dir() else ():
            if (child / ".zarray").exists() or (child / "zarr.json").exists():
                paths[child.name] = f"{group}/{child.name}"
    return paths


def _open_zarr_array(zarr: Any, store: Any, array_path: str) -> Any:
    array = zarr.open_array(store, path=array_path, mode="r")
    missing = array.nchunks - array.nchunks_initialized
    if missing:
        # zarr would silently hand out the fill value: demonstrations of zeros.
        raise ValueError(
            f"{missing} of {array.nchunks} chunks are absent; copy the file again, or if its "
            "writer left out constant chunks, write it with write_empty_chunks=True"
        )
    return array


def import_zarr(purpose: str) -> Any:
    """Import zarr; raise ImportError naming the extra."""
    try:
        import zarr.storage
    except ImportError as error:
        raise ImportError(f"{purpose} zarr files needs: pip install 'hotloop[zarr]'") from error
    return zarr


def write_replay_file(path: Path, episodes: Episodes, advance: Callable[[int], object]) -> None:
    """Write a new ``.zarr`` folder or, if `path` ends in ``.zip``, one stored archive.

    An observation ``observation.NAME`` becomes ``data/NAME``; rewards become ``data/reward``.
    """
    zarr = import_zarr("writing")
    zipped = path.suffix == ".zip"
    store = zarr.storage.ZipStore(path, mode="w") if zipped else zarr.storage.LocalStore(path)
    try:
        arrays = {"action": episodes.actions, **episodes.observations}
        if episodes.rewards is not None:
            arrays["reward"] = episodes.rewards
        arrays |= {f"info.{name}": array for name, array in episodes.infos.items()}
        names = {key: key.removeprefix("observation.") for key in arrays}
        if len(set(names.values()) | set(_META)) != len(names) + len(_META):
            raise ValueError(f"observation keys {sorted(arrays)} collide without their prefix")
        attributes = {"keys": names, "metadata": json.loads(json.dumps(dict(episodes.metadata)))}
        # At once: a zip archive would keep the attributes that an update replaces.
        root = zarr.create_group(store, zarr_format=2, attributes=attributes)
        for key, array in arrays.items():
            _write_array(root, f"data/{names[key]}", array)
            advance(episodes.num_steps // len(arrays))
        _write_array(root, "meta/episode_ends", episodes.episode_ends.astype(np.int64))
        _write_array(root, "meta/terminated", episodes.terminated)
    finally:
        store.close()


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
