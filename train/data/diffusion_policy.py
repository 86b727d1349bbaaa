"""Replay buffers of diffusion_policy: ``.zarr`` folders, ``.zarr.zip`` and flat ``.npz`` files.

Layout (Chi et al. 2023, also used by UMI): arrays ``data/NAME`` with one row per step and
``meta/episode_ends`` with the exclusive end of each episode. The npz holds the same arrays
without the two groups.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .columns import DECODE_ERRORS, ColumnFile, build_episodes, require_path, select_columns
from .episodes import Episodes

REPLAY_SUFFIXES = (".zarr", ".zarr.zip", ".npz")


def read_replay(path: Path | str, keys: Mapping[str, str] | None = None) -> Episodes:
    """Read a replay buffer; columns that `keys` does not name are never decoded.

    Args:
        path: A ``.zarr`` folder, ``.zarr.zip`` or ``.npz`` file.
        keys: From ``action``, ``reward`` and ``observation.*`` to columns of the file, e.g.
            ``{"observation.state": "state[:2]", "action": "action"}``. Default: ``action``, and
            every other column but images as ``observation.NAME``.

    Raises:
        FileNotFoundError: If `path` does not exist; names the nearest file names.
        ValueError: If the file or a column is damaged, absent or inconsistent.
    """
    with open_replay(path) as file:
        episode_ends = read_episode_ends(file)
        keys = dict(keys or _default_keys(file))
        metadata = {"source": file.path.name, "columns": keys}
        return build_episodes(file.path, select_columns(file, keys), episode_ends, metadata)


def read_episode_ends(file: ColumnFile) -> np.ndarray:
    """Read the exclusive end of each episode, shape (E,), int64, without judging the values."""
    ends = file.column("episode_ends").read()
    if ends.dtype.kind not in "iu" or ends.ndim != 1:
        raise ValueError(
            f"{file.path}: column 'episode_ends' must be a list of integers, found {ends.dtype} "
            f"of shape {ends.shape}"
        )
    return ends.astype(np.int64)


@contextmanager
def open_replay(path: Path | str) -> Iterator[ColumnFile]:
    """Open a replay buffer without decoding it; errors as in `read_replay`."""
    path = require_path(path)
    opener = _open_npz if path.suffix == ".npz" else _open_zarr
    with ExitStack() as resources:
        try:
            file = opener(path, resources)
        except DECODE_ERRORS as error:
            raise ValueError(f"{path}: cannot be opened: {error}") from error
        yield file


def _default_keys(file: ColumnFile) -> dict[str, str]:
    names = [name for name in file.names if name not in ("action", "episode_ends")]
    vectors = [name for name in names if len(file.column(name).shape) < 3]
    return {"action": "action"} | {f"observation.{name}": name for name in vectors}


def _open_npz(path: Path, resources: ExitStack) -> ColumnFile:
    if not zipfile.is_zipfile(path):
        raise ValueError(
            "not a complete npz archive; it is truncated or another kind of file (pickles are "
            "never opened)"
        )
    # np.load would leave a file that it opens itself open when the archive is damaged.
    stream = resources.enter_context(path.open("rb"))
    # Unpickling runs code from the file, so object arrays are refused.
    archive = resources.enter_context(np.load(stream, allow_pickle=False))
    return ColumnFile(path, "replay", tuple(archive.files), archive.__getitem__)


def _open_zarr(path: Path, resources: ExitStack) -> ColumnFile:
    zarr = _import_zarr()
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
    # Opens the store, which could not be closed otherwise. Consolidated metadata would parse every
    # column, also those whose codec is not installed.
    zarr.open_group(store, mode="r", use_consolidated=False)
    resources.callback(store.close)
    return ColumnFile(
        path, "replay", tuple(paths), lambda name: _open_zarr_array(zarr, store, paths[name])
    )


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


def _import_zarr() -> Any:
    try:
        import zarr.storage
    except ImportError as error:
        raise ImportError("reading zarr files needs: pip install 'hotloop[zarr]'") from error
    return zarr
