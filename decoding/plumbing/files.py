"""Writing files and folders that readers never see half done."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
# Far longer than two renames take, in case another process is just between them.
_PATIENCE = 0.5  # [s]
# Of Linux's renameat2.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# What this process is writing; the same names of an earlier process of its number are left over.
_writing: set[Path] = set()


def write_text(path: Path, text: str) -> None:
    """Write a file so that readers see the old or the new content, never a part."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Generator[Path, None, None]:
    """Context in which a file or folder is written under a temporary name, then put in place.

    Yields a name beside `path` with the same suffix, to be created. If the block fails, `path`
    stays as it was. What a killed process left behind, the next one that writes `path` removes. If
    `path` is a link, the link is replaced, not what it points to.

    Where two folders can be exchanged in one step, as on most file systems of Linux, readers find
    the old or the new one at any time. Elsewhere the old one is renamed, to a name that says
    what it was, and then the new one takes the name. Who was killed between the two is made up for
    by `recover`, which this function and everyone who reads such folders calls first.

    Raises:
        ValueError: If `path` is a device or a pipe, or a link to one.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(
            f"{path} is a device or a pipe, which is never replaced by a file; choose another name"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
    for leftover in _left_over(path, "partial") + _left_over(path, "replaced"):
        _remove(leftover)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    _writing.add(partial)
    try:
        yield partial
        # Else a crash of the machine could leave the new name with old or no content.
        _flush(partial)
        are_folders = partial.is_dir() and path.is_dir() and not path.is_symlink()
        if are_folders and _exchange(partial, path):
            return
        if path.is_dir() or (path.exists() and partial.is_dir()):
            # Two renames: a reader finds the old folder, for an instant none, or the new one.
            replaced = path.with_name(f".replaced-{os.getpid()}-{path.name}")
            path.rename(replaced)
            partial.rename(path)
            _remove(replaced)
        else:
            partial.replace(path)
    finally:
        _remove(partial)
        _writing.discard(partial)


@contextmanager
def scratch_folder(path: Path) -> Generator[Path, None, None]:
    """Context of a folder beside `path` for what is in the making; it is gone afterwards.

    What a killed process left there is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in _left_over(path, "scratch"):
        _remove(leftover)
    folder = path.with_name(f".scratch-{os.getpid()}-{path.name}")
    folder.mkdir()
    try:
        yield folder
    finally:
        _remove(folder)


def recover(path: Path) -> Path:
    """Finish what a process was killed in that was replacing `path`, and return `path`.

    The old folder is only renamed after the new one is complete, so the new one takes its place;
    if that is gone, the old one comes back. Costs nothing where `path` exists.
    """
    deadline = time.monotonic() + _PATIENCE
    while not (path.exists() or path.is_symlink()) and path.parent.is_dir():
        replaced = _members(path, "replaced")
        if not replaced:
            break
        owner, folder = replaced[0]
        if _is_running(owner) and time.monotonic() < deadline:
            time.sleep(0.01)
            continue
        partial = path.with_name(f".partial-{owner}-{path.name}")
        try:
            (partial if partial.exists() else folder).rename(path)
        except OSError:
            # Another reader was faster.
            if not path.exists():
                raise
        for _, rest in replaced:
            _remove(rest)
    return path


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is what git has in place of one that Git LFS keeps."""
    if path.is_dir():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_LFS_POINTER)) == _LFS_POINTER


def lfs_message(path: Path | str) -> str:
    """What is wrong with a pointer, and what to do."""
    return (
        f"{path} is a git-lfs pointer, not the file itself; run `git lfs pull` in its repository "
        "to download it"
    )


def refuse_lfs_pointer(path: Path) -> Path:
    """Return `path`, or raise ValueError if it is a Git LFS pointer, which holds no data."""
    if is_lfs_pointer(path):
        raise ValueError(lfs_message(path))
    return path


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that must hold an object.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else, or is a Git LFS pointer.
    """
    refuse_lfs_pointer(path)
    try:
        # Windows writes a byte order mark in front.
        found: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    # A number of thousands of digits is a ValueError, too.
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a JSON object, found {str(found)[:80]}")
    return cast("dict[str, Any]", found)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change their names in one step; False where the system has no such thing."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    return rename(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other), _RENAME_EXCHANGE) == 0


def _members(path: Path, purpose: str) -> list[tuple[int, Path]]:
    """Processes and their temporary names of one purpose that belong to `path` itself."""
    pattern = re.compile(rf"\.{purpose}-(\d+)-{re.escape(path.name)}")
    matches = ((pattern.fullmatch(entry.name), entry) for entry in path.parent.iterdir())
    return [(int(match[1]), entry) for match, entry in matches if match]


def _left_over(path: Path, purpose: str) -> list[Path]:
    """Temporary names whose process is no more."""
    own = path.with_name(f".partial-{os.getpid()}-{path.name}")
    return [
        entry
        for owner, entry in _members(path, purpose)
        if not _is_running(owner) or (owner == os.getpid() and own not in _writing)
    ]


def _flush(path: Path) -> None:
    """Make the system write a file, or all files of a folder, to the disk.

    Links to files that have another name too are left out: those were written before.
    """
    for file in path.rglob("*") if path.is_dir() else [path]:
        if not file.is_symlink() and file.is_file() and file.stat().st_nlink == 1:
            with file.open("rb") as stream:
                os.fsync(stream.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
