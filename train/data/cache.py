"""Large datasets, decoded once into plain files that are memory-mapped from then on.

A cache folder holds one ``.npy`` per array and ``index.json``. It belongs to a source file, the
columns read from it and the options, and is valid as long as size and modification time of the
source stay as they were; a changed source replaces its folder. Folders appear complete or not at
all, and processes that want the same one wait for the first to make it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding.plumbing.cache import cache_root
from ...decoding.plumbing.files import replacing
from .decode import Allocate
from .episodes import Episodes

VERSION = 3
_FACTS = ("texts", "metadata", "faults", "notes")


class EpisodeCache:
    """The cache folder of one way to read one source.

    Args:
        source: File or folder.
        request: What is read from it and how, JSON-able.
    """

    def __init__(self, source: Path, request: Mapping[str, Any]) -> None:
        self._source = source.resolve()
        identity = json.dumps([str(self._source), request], sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.folder = cache_root() / "datasets" / f"{source.name}-{digest}"

    def load(self) -> Episodes | None:
        """Map the arrays; None if there is no folder, or one of another source or version."""
        try:
            index = json.loads((self.folder / "index.json").read_text())
            if index["version"] != VERSION or index["source"] != self.fingerprint():
                return None
            # Copy on write: the files stay as they are, and torch gets the memory it asks for.
            arrays = {
                key: np.load(self.folder / name, mmap_mode="c", allow_pickle=False)
                for key, name in index["arrays"].items()
            }
            return _assemble(arrays, {name: index[name] for name in _FACTS})
        # A folder that was tampered with, or whose disk was full, is made anew.
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            return None

    def build(self, decode: Callable[[Allocate], Episodes]) -> Episodes:
        """Fill the folder with what `decode` returns and map it.

        Args:
            decode: Reads the source into the arrays that the function it is given makes.
        """
        from filelock import FileLock

        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.folder}.lock"):
            if (episodes := self.load()) is not None:
                return episodes
            fingerprint = self.fingerprint()
            with replacing(self.folder) as folder:
                folder.mkdir()
                _write(folder, decode, fingerprint)
            episodes = self.load()
        if episodes is None:
            raise ValueError(f"{self._source} changed while it was read; read it again")
        return episodes

    def fingerprint(self) -> str:
        """Digest of the names, sizes and modification times of the source's files."""
        paths = [self._source]
        if self._source.is_dir():
            paths = sorted(path for path in self._source.rglob("*") if path.is_file())
        digest = hashlib.sha256()
        for path in paths:
            stat = path.stat()
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def _write(folder: Path, decode: Callable[[Allocate], Episodes], fingerprint: str) -> None:
    names: dict[str, str] = {}

    def allocate(key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        names[key] = f"{len(names):03d}.npy"
        mapped = np.lib.format.open_memmap(folder / names[key], "w+", dtype=dtype, shape=shape)
        _reserve(folder / names[key])
        return mapped

    episodes = decode(allocate)
    small = {"episode_ends": episodes.episode_ends, "terminated": episodes.terminated}
    for key, array in (episodes.final_observations or {}).items():
        small[f"final.{key}"] = array
    for key, array in small.items():
        allocate(key, array.shape, array.dtype)[...] = array
    index = {
        "version": VERSION,
        "source": fingerprint,
        "arrays": names,
        **{name: getattr(episodes, name) for name in _FACTS},
    }
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")


def _reserve(path: Path) -> None:
    """Take the room of a file at once: writing to a map where the disk is full ends the process.

    Raises:
        OSError: If there is not as much room.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    size = path.stat().st_size
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                return  # a file system that cannot reserve
            raise OSError(
                f"{cache_root()} has no room for another {size / 1e9:.1f} GB; delete what is old "
                "there, or set HOTLOOP_CACHE to a folder on a larger disk"
            ) from error


def _assemble(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> Episodes:
    def named(prefix: str, new: str = "") -> dict[str, np.ndarray]:
        return {
            new + key.removeprefix(prefix): array
            for key, array in arrays.items()
            if key.startswith(prefix)
        }

    return Episodes(
        observations=named("observation.", "observation."),
        actions=arrays["action"],
        episode_ends=np.array(arrays["episode_ends"]),
        rewards=arrays.get("reward"),
        terminated=np.array(arrays["terminated"]),
        final_observations=named("final.") or None,
        infos=named("info."),
        texts=facts["texts"],
        metadata=facts["metadata"],
        faults=tuple(facts["faults"]),
        notes=tuple(facts["notes"]),
    )
