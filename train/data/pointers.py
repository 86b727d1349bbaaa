"""Pointers that git-lfs leaves in place of files of a dataset that it has not fetched."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from ...decoding.plumbing.files import is_lfs_pointer

_MAX_FILES = 10_000


def is_pointer(path: Path) -> bool:
    """Whether a path is a pointer; one that is absent or cannot be read is none."""
    try:
        return path.exists() and is_lfs_pointer(path)
    except OSError:
        return False


def find_pointer(path: Path) -> Path | None:
    """The first pointer among `path` and the files below it, None if there is none."""
    files = islice(path.rglob("*"), _MAX_FILES) if path.is_dir() else [path]
    return next((file for file in files if is_pointer(file)), None)
