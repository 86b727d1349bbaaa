"""What has to be right before a robot moves: log, policy, pose and bus."""

from __future__ import annotations

import os
import resource
import subprocess
from dataclasses import replace

import pytest
from robot_runs import CONTROL, DRY, JOB, run, spy_on

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.runtime import supervisor
from hotloop.real_robot.runtime.supervisor import supervise


@pytest.mark.parametrize("kind", ["taken", "in a file", "on a full disk"])
def test_a_log_that_cannot_be_written_keeps_the_robot_from_moving(
    kind, tmp_path, monkeypatch
) -> None:
    started = spy_on(monkeypatch)
    (tmp_path / "file").write_bytes(b"of an earlier run")
    path = {"taken": tmp_path / "file", "in a file": tmp_path / "file" / "log.mcap",
            "on a full disk": tmp_path / "full.mcap"}[kind]  # fmt: skip
    if kind == "on a full disk":
        # What is written there fails like on a full disk; the name itself is free.
        real = supervisor.start
        monkeypatch.setattr(supervisor, "start", lambda *a: limited(real(*a)))
    with pytest.raises((ValueError, OSError), match=str(path)):
        run(DRY, replace(JOB, log=path))
    assert "control_process" not in started and "policy_process" not in started
    assert (tmp_path / "file").read_bytes() == b"of an earlier run"


def limited(process: subprocess.Popen) -> subprocess.Popen:
    """Let a process write no file of more than 8 bytes."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (8, 8))
    return process


def test_a_run_that_does_not_reach_its_robot_leaves_no_log(tmp_path) -> None:
    path = tmp_path / "log.mcap"
    robot = RobotConfig("gone", "dynamixel", CONTROL, {"port": "/dev/does-not-exist"})
    with pytest.raises(ConnectionError, match=r"gone: .*/dev/does-not-exist"):
        run(robot, replace(JOB, log=path))
    assert list(tmp_path.iterdir()) == []


def test_a_robot_that_may_not_start_is_an_error_before_anything_moves() -> None:
    robot = replace(DRY, options={"position": [2.0] + [0.0] * 5})
    with pytest.raises(ConnectionError, match=r"arm: joint 0 is at 2\.0000, outside its limits"):
        run(robot, JOB)
    named = replace(robot, joints=("pan", "lift", "elbow", "wrist", "roll", "jaw"))
    with pytest.raises(ConnectionError, match=r"arm: joint 0 \(pan\) is at 2\.0000, outside"):
        run(named, JOB)


def test_joints_are_told_by_number_and_name() -> None:
    robot = replace(DRY, joints=("pan", "lift", "elbow", "wrist", "roll", "jaw"))
    for text, told in (
        ("joint 1 is away, joint 5 too", "joint 1 (lift) is away, joint 5 (jaw) too"),
        ("servo 4 is off: joint 3 (wrist)", "servo 4 is off: joint 3 (wrist)"),
        ("joint 17 is none; joints 1", "joint 17 is none; joints 1"),
    ):
        assert robot.name_joints(text) == told
        assert DRY.name_joints(text) == text


FAILING = """
import sys
from hotloop.real_robot.policies.reach import ReachPolicy

def share(robot, options):
    return ReachPolicy(robot, share=7.0)

def crash(robot, options):
    raise LookupError("a defect")

class Late(ReachPolicy):
    def __init__(self, robot, options):
        super().__init__(robot)

    def plan(self, snapshot):
        raise ValueError("3 sensors are needed")
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("share", r"policy: share must be in \(0, 1\]"),
        ("crash", "policy: the policy process ended, see its messages"),
        ("none", "policy: robot policy 'failing:none': module 'failing' has no 'none'"),
        ("Late", "policy: 3 sensors are needed"),
    ],
)
def test_a_policy_that_fails_is_an_error_before_the_robot_moves(
    name, message, tmp_path, monkeypatch, capfd
) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    started, lines = spy_on(monkeypatch), []
    with pytest.raises(ValueError, match=message):
        supervise(DRY, replace(JOB, policy=f"failing:{name}"), lines.append)
    assert ("control_process" in started) == (name == "Late")
    assert not any("ARMED" in line for line in lines)
    assert ("LookupError" in capfd.readouterr().err) == (name == "crash")


def test_a_robot_that_does_not_answer_is_an_error() -> None:
    robot = RobotConfig("gone", "dynamixel", CONTROL, {"port": "/dev/does-not-exist"})
    with pytest.raises(ConnectionError, match=r"gone: .*/dev/does-not-exist"):
        run(robot, JOB)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inject": "typo"}, "inject must be one of"),
        ({"duration": 0.0}, "duration must be a positive time"),
    ],
)
def test_a_session_that_makes_no_sense_is_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        replace(JOB, **change)
