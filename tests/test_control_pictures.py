"""`hotloop control` of policies that see: cameras that give something else than they should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_joints import save_tiny

from hotloop.train.commands import ExitCode

pytestmark = pytest.mark.realtime

CAMERA = '''
import time

import numpy as np

from hotloop.real_robot.cameras.camera import Picture


class Camera:
    """Gives pictures of another shape than its own: from the start, or when the arm has moved."""

    def __init__(self, config, state):
        self.config, self.state, self.start = config, state, None

    def open(self):
        pass

    def read(self):
        shape, options = (*self.config.size, 3), self.config.options
        if not options["late"] or self.moved():
            shape = options["shape"]
        return Picture(time.monotonic(), np.zeros(shape, np.uint8))

    def moved(self):
        state = self.state()
        if state is None:
            return False
        self.start = state.position if self.start is None else self.start
        return np.abs(state.position - self.start).max() > 0.005

    def close(self):
        pass
'''
WRONG = "policy: the picture of camera 'front' must have shape (20, 24, 3) and type uint8, got "


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("seeing")
    (folder / "my_camera.py").write_text(CAMERA)
    return save_tiny(folder / "student", "sdp-image").parent


def control(folder: Path, options: str, *more: str) -> subprocess.CompletedProcess[str]:
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    camera = "robot.cameras.front"
    return subprocess.run(
        [
            sys.executable, "-m", "hotloop.train.cli", "control", "robot=mujoco-arm",
            f"checkpoint={folder / 'student'}", f"{camera}.driver=my_camera:Camera",
            f"{camera}.size=[20,24]", f"{camera}.options={options}", *more,
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
    )  # fmt: skip


def test_a_camera_that_gives_something_else_is_one_error_before_the_robot_is_touched(
    folder: Path,
) -> None:
    process = control(folder, "{shape: [20,24,4], late: false}", "duration=1")
    assert process.returncode == ExitCode.USAGE and process.stdout == ""
    assert process.stderr.splitlines()[-1] == (
        f"hotloop: error: {WRONG}(20, 24, 4) and uint8: it has four channels; leave out the last, "
        "alpha or depth"
    )


def test_a_camera_that_becomes_grey_while_the_robot_moves_stops_it(
    folder: Path, tmp_path: Path
) -> None:
    process = control(
        folder, "{shape: [20,24], late: true}", "duration=60", f"output_dir={tmp_path / 'run'}",
        "robot.control.slow_start=0", "robot.control.rules.max_age=5.0",
    )  # fmt: skip
    assert process.returncode == ExitCode.FAILED, process.stdout + process.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["accepted_chunks"] > 0 and summary["limit_violations"] == 0
    failure = f"{WRONG}(20, 24) and uint8: it is grey; give red, green and blue"
    assert summary["policy_failure"] == failure.removeprefix("policy: ")
    assert "policy" in summary["ended_by"]
