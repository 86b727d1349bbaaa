"""A log whose messages are not what a loop writes, and exports that would replace something."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotloop.decoding.plumbing.files import write_text
from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.controller import ControllerConfig
from hotloop.real_robot.core.limits import Limits
from hotloop.real_robot.logs.reader import read_log
from hotloop.real_robot.logs.writer import LogWriter
from hotloop.real_robot.runtime.channels import EVENT, Sizes, chunk_dtype, cycle_dtype
from hotloop.train.cli import main

SIZES = Sizes(2, 1, 0.01)
LIMITS = Limits((-1.0,) * 2, (1.0,) * 2, (1.0,) * 2, (9.0,) * 2, (99.0,) * 2)
ROBOT = RobotConfig("arm", "dry-run", ControllerConfig(LIMITS, 0.01))


def written(path: Path, change: Callable[[str, Any], Any] | None = None, cycles: int = 3) -> Path:
    """A small log; `change` gets each message's topic and values, and may return other ones."""
    chunk = np.zeros(1, chunk_dtype(SIZES))
    chunk["count"], chunk["times"][:, :2] = 2, (0.1, 0.2)
    with LogWriter(path, ROBOT, SIZES) as writer:
        add = writer._message

        def message(topic: str, values: Any, time: float) -> None:
            values = json.loads(json.dumps(values))
            other = None if change is None else change(topic, values)
            add(topic, values if other is None else other, time)

        writer._message = message
        writer.cycles(np.zeros(cycles, cycle_dtype(SIZES)))
        writer.chunks(chunk)
        writer.events(np.zeros(1, EVENT))
        writer.end(0)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_log_of_ordinary_records_is_read(tmp_path) -> None:
    log = read_log(written(tmp_path / "log.mcap"))
    assert (len(log.cycles), len(log.chunks), len(log.events), log.dropped) == (3, 1, 1, 0)


@pytest.mark.parametrize(
    ("topic", "path", "value", "message"),
    [
        ("/cycle", ["now"], None, "/cycle 0 now must be a number, got None"),
        ("/cycle", ["now"], {}, "/cycle 0 now must be a number"),
        ("/cycle", ["age"], "x", "/cycle 0 age must be a number, got 'x'"),
        ("/cycle", ["has_command"], {}, "/cycle 0 has_command must be a whole number"),
        ("/cycle", ["command"], [0.0, []], "/cycle 0 command must be a number"),
        ("/cycle", ["command"], "ab", "/cycle 0 command must be a list of 2 values, got 'ab'"),
        ("/cycle", ["state"], [1], "/cycle 0 state is no record"),
        ("/cycle", ["state", "fault"], 3, "/cycle 0 state fault must be a text"),
        ("/cycle", ["mode"], 99, "99 is not a valid Mode"),
        ("/cycle", ["request"], 99, "99 is not a valid Request"),
        ("/event", ["kind"], 99, "99 is not a valid EventKind"),
        ("/event", ["text"], None, "/event 0 text must be a text"),
        ("/event", ["time"], [], "/event 0 time must be a number"),
        ("/chunk", ["sequence"], "x", "/chunk 0 sequence must be a whole number"),
        ("/chunk", ["count"], 3, "/chunk 0 times must be a list of 3 values"),
        ("/chunk", ["count"], 10**30, "/chunk 0 has 1000"),
        ("/chunk", ["waypoints"], [[0.0], [0.0]], "/chunk 0 waypoints must be a list of 2 values"),
        ("/end", ["dropped"], None, "/end dropped must be a whole number"),
        ("/end", ["dropped"], 1.5, "/end dropped must be a whole number"),
        ("/end", ["dropped"], -5, "/end says that -5 records were lost"),
    ],
)
def test_a_value_that_no_loop_writes_is_named(topic, path, value, message, tmp_path) -> None:
    def change(found: str, values: Any) -> None:
        if found == topic:
            for name in path[:-1]:
                values = values[name]
            values[path[-1]] = value

    log = written(tmp_path / "log.mcap", change)
    with pytest.raises(ValueError, match=message) as caught:
        read_log(log)
    assert str(log) in str(caught.value)


def test_a_message_that_is_no_record_is_named(tmp_path) -> None:
    for index, other in enumerate([[1], "x", 3]):
        log = written(tmp_path / f"{index}.mcap", lambda topic, _, other=other: other)
        with pytest.raises(ValueError, match="/cycle 0 is no record but"):
            read_log(log)


def test_a_pointer_of_git_lfs_is_named(tmp_path) -> None:
    path = tmp_path / "log.mcap"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    with pytest.raises(ValueError, match="git lfs pull"):
        read_log(path)


@pytest.mark.parametrize("flag", ["--csv", "--plot", "--rerun"])
def test_a_log_without_cycles_is_not_exported(flag, tmp_path, capsys) -> None:
    target = tmp_path / "out"
    assert main(["log", str(written(tmp_path / "log.mcap", cycles=0)), flag, str(target)]) == 2
    assert "holds no cycle, so there is nothing to export" in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.parametrize("flag", ["--csv", "--plot", "--rerun"])
@pytest.mark.parametrize("kind", ["file", "folder", "pipe", "link to a file", "link to a pipe"])
def test_an_export_replaces_only_an_earlier_one(flag, kind, tmp_path, capsys) -> None:
    log, target, mine = written(tmp_path / "log.mcap"), tmp_path / "target", tmp_path / "mine"
    if kind.startswith("link"):
        os.mkfifo(mine) if kind.endswith("pipe") else mine.write_text("my notes")
        target.symlink_to(mine)
    elif kind == "folder":
        target.mkdir()
    elif kind == "pipe":
        os.mkfifo(target)
    else:
        target.write_text("my notes")
    before = names(tmp_path), target.lstat()
    assert main(["log", str(log), flag, str(target)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(target) in line and ("no earlier export" in line or "is no file" in line)
    after = names(tmp_path), target.lstat()
    assert (after[0], after[1].st_ino) == (before[0], before[1].st_ino)
    assert kind not in ("file", "link to a file") or target.read_text() == "my notes"


@pytest.mark.parametrize("flag", ["--csv", "--plot"])
def test_an_earlier_export_is_replaced_whatever_its_name(flag, tmp_path) -> None:
    log, target = written(tmp_path / "log.mcap"), tmp_path / "target"
    for _ in range(2):
        assert main(["log", str(log), flag, str(target)]) == 0
    assert names(tmp_path) == ["log.mcap", "target"]


def test_a_pipe_is_never_replaced_by_a_file(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(ValueError, match="a device or a pipe, which is never replaced"):
            write_text(tmp_path / name, "text")
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "link").is_symlink()
