"""Pointers that git-lfs leaves in place of files that it has not fetched."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

_FIRST_LINE = b"version https://git-lfs"
_LARGEST = 1024  # bytes, by git-lfs's specification
_MAX_FILES = 10_000


def is_pointer(path: Path) -> bool:
    """Whether a file is a pointer of git-lfs instead of the content it stands for."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return False
        with path.open("rb") as stream:
            return stream.read(len(_FIRST_LINE)) == _FIRST_LINE
    except OSError:
        return False


def find_pointer(path: Path) -> Path | None:
    """The first pointer among `path` and the files below it, None if there is none."""
    files = islice(path.rglob("*"), _MAX_FILES) if path.is_dir() else [path]
    return next((file for file in files if is_pointer(file)), None)


def pointer_message(path: Path) -> str:
    """What is wrong with a pointer, and what to do."""
    return (
        f"{path}: a pointer of git-lfs, not the file itself, which was not fetched; get it with "
        "`git lfs pull`"
    )
