"""Writing files and folders that readers never see half done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from glob import escape
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file so that readers see the old or the new content, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


@contextmanager
def replacing(path: Path) -> Generator[Path, None, None]:
    """Context in which a file or folder is written under a temporary name, then put in place.

    Yields a name beside `path` with the same suffix, to be created. If the block fails, `path`
    stays as it was. What a killed process left behind, the next one that writes `path` removes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".partial-*-{escape(path.name)}"):
        if not _is_running(int(leftover.name.split("-")[1])):
            _remove(leftover)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    _remove(partial)
    try:
        yield partial
        if partial.is_file():
            # Else a crash of the machine could leave the new name with old or no content.
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
        if path.is_dir():
            # Two renames: a reader finds the old folder, for an instant none, or the new one.
            old = path.with_name(f".partial-{os.getpid()}-old-{path.name}")
            path.rename(old)
            partial.rename(path)
            _remove(old)
        else:
            partial.replace(path)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
