"""`hotloop demo` in miniature: every stage runs, the report is complete, a miss is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hotloop.train.cli import main
from hotloop.train.commands import ExitCode
from hotloop.train.commands import demo as command
from hotloop.train.demo import run as demo

pytest.importorskip("gymnasium_robotics")


def test_a_demo_that_misses_its_goal_reports_every_row_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "NUM_DEMONSTRATIONS", 2)
    monkeypatch.setattr(demo, "TRAIN_STEPS", 2)
    # 100 calls per plan would take most of the time; the command treats all rows alike.
    monkeypatch.setattr(demo, "CONTENDERS", demo.CONTENDERS[1:])
    # One episode may start beside its goal, so that even an untrained policy reaches it.
    monkeypatch.setattr(command, "SUCCESS_GOAL", 1.1)
    code = main(["demo", "--output-dir", str(tmp_path / "demo"), "--num-episodes", "1"])
    assert code == ExitCode.FAILED, capsys.readouterr().err
    assert "<html" in (tmp_path / "demo" / "report.html").read_text()
    rows = json.loads((tmp_path / "demo" / "report.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [one.name for one in demo.CONTENDERS]
    assert all(0 <= row["success"] <= 1 and row["median_ms"] > 0 for row in rows)


def test_a_folder_with_files_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["demo", "--output-dir", str(tmp_path)]) == ExitCode.USAGE
    assert "is not empty; choose another output_dir" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
