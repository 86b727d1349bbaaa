"""Files and folders are old or new, never half, even if the writer is killed at any instant."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hotloop.decoding.plumbing import files
from hotloop.decoding.plumbing.files import (
    is_lfs_pointer,
    recover,
    refuse_lfs_pointer,
    replacing,
    write_text,
)

DEAD = 99_999_999  # above the kernel's largest process number
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 7818584\n"

WRITER = """
import os, signal, sys
from pathlib import Path
from hotloop.decoding.plumbing import files
from hotloop.decoding.plumbing.files import replacing

# As on a file system that cannot exchange two folders in one step.
files._exchange = lambda one, other: False
renames, rename, deadly = 0, Path.rename, int(sys.argv[2])

def counted(self, target):
    global renames
    if renames == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    renames += 1
    return rename(self, target)

Path.rename = counted
with replacing(Path(sys.argv[1])) as partial:
    partial.mkdir()
    (partial / "content").write_text("new")
    if deadly < 0:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "content").write_text(content)
    return path


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def killed_writer(path: Path, renames_before: int) -> None:
    """Replace a folder in a process that is killed before one of its renames, or while writing."""
    command = [sys.executable, "-c", WRITER, str(path), str(renames_before)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


@pytest.mark.parametrize(("renames_before", "expected"), [(-1, "old"), (0, "old"), (1, "new")])
def test_a_writer_killed_at_any_instant_loses_neither_old_nor_new(
    tmp_path: Path, renames_before: int, expected: str
) -> None:
    """Between the two renames there was no folder, and nobody put one back."""
    target = folder(tmp_path / "run.zarr", "old")
    killed_writer(target, renames_before)
    assert target.exists() == (renames_before < 1)
    assert recover(target) == target
    assert (target / "content").read_text() == expected
    with replacing(target) as partial:
        folder(partial, "newest")
    assert (target / "content").read_text() == "newest"
    assert names(tmp_path) == ["run.zarr"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges folders in one step")
def test_a_folder_takes_anothers_place_in_one_step(tmp_path: Path) -> None:
    target, other = folder(tmp_path / "run", "old"), folder(tmp_path / "other", "new")
    assert files._exchange(other, target)
    assert ((target / "content").read_text(), (other / "content").read_text()) == ("new", "old")
    assert not files._exchange(other, tmp_path / "missing")
    assert names(tmp_path) == ["other", "run"]


def test_the_next_writer_recovers_before_it_begins(tmp_path: Path) -> None:
    target = folder(tmp_path / "run", "old")
    killed_writer(target, 1)
    with pytest.raises(KeyError), replacing(target):
        raise KeyError
    assert (target / "content").read_text() == "new"
    assert names(tmp_path) == ["run"]


def test_an_old_folder_without_a_new_one_comes_back(tmp_path: Path) -> None:
    folder(tmp_path / f".replaced-{DEAD}-run", "old")
    assert (recover(tmp_path / "run") / "content").read_text() == "old"
    assert names(tmp_path) == ["run"]


def test_a_number_that_another_process_has_taken_over_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In containers numbers are small and come again; process 1 always runs."""
    monkeypatch.setattr(files, "_PATIENCE", 0.05)
    for owner in (1, os.getpid()):
        folder(tmp_path / f".replaced-{owner}-run{owner}", "old")
        folder(tmp_path / f".partial-{owner}-run{owner}", "new")
        recover(tmp_path / f"run{owner}")
        assert (tmp_path / f"run{owner}" / "content").read_text() == "new"


def test_nothing_is_recovered_that_was_never_replaced(tmp_path: Path) -> None:
    folder(tmp_path / f".partial-{DEAD}-run", "half")
    folder(tmp_path / f".replaced-{DEAD}-other-run", "of another")
    assert not recover(tmp_path / "run").exists()
    assert not recover(tmp_path / "missing" / "run").exists()


def test_only_what_dead_processes_left_of_this_very_target_is_removed(tmp_path: Path) -> None:
    running = folder(tmp_path / ".partial-1-run", "another process is writing")
    others = folder(tmp_path / f".partial-{DEAD}-old-run", "of another target")
    folder(tmp_path / f".partial-{DEAD}-run", "half")
    folder(tmp_path / f".partial-{os.getpid()}-run", "of an earlier process of this number")
    with replacing(tmp_path / "run") as partial:
        folder(partial, "new")
    assert names(tmp_path) == sorted([running.name, others.name, "run"])


def test_a_link_is_replaced_and_not_what_it_points_to(tmp_path: Path) -> None:
    kept = folder(tmp_path / "kept", "old")
    (tmp_path / "link").symlink_to(kept)
    with replacing(tmp_path / "link") as partial:
        folder(partial, "new")
    assert (kept / "content").read_text() == "old"
    assert (tmp_path / "link" / "content").read_text() == "new"
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("first", [None, "file", "folder"])
@pytest.mark.parametrize("then", ["file", "folder"])
def test_files_and_folders_replace_each_other(tmp_path: Path, first: str | None, then: str) -> None:
    make: dict[str, Callable[[Path], object]] = {
        "file": lambda path: path.write_text("text"),
        "folder": lambda path: folder(path, "text"),
    }
    if first:
        make[first](tmp_path / "a")
    with replacing(tmp_path / "a") as partial:
        make[then](partial)
    assert (tmp_path / "a").is_dir() == (then == "folder")
    assert names(tmp_path) == ["a"]


def test_a_failed_block_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "a.json", "old")
    with pytest.raises(OSError, match="disk full"), replacing(tmp_path / "deep" / "a.json") as new:
        new.write_text("half")
        raise OSError("disk full")
    assert (tmp_path / "deep" / "a.json").read_text() == "old"
    assert names(tmp_path / "deep") == ["a.json"]


def test_an_lfs_pointer_is_told_from_a_file(tmp_path: Path) -> None:
    for name, content in (("pointer", POINTER), ("text", "version 2"), ("empty", "")):
        (tmp_path / name).write_text(content)
    assert is_lfs_pointer(tmp_path / "pointer")
    assert not any(is_lfs_pointer(tmp_path / name) for name in ("text", "empty"))
    assert not is_lfs_pointer(tmp_path)
    assert refuse_lfs_pointer(tmp_path / "text") == tmp_path / "text"
    with pytest.raises(ValueError, match=r"pointer is a git-lfs pointer.*git lfs pull"):
        refuse_lfs_pointer(tmp_path / "pointer")
