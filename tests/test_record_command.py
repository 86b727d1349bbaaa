"""`hotloop record` and `hotloop control record=…`: real processes, keys, pictures, kill -9."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from moved_by_hand import JOINTS, limp_bus
from robot_runs import ARM, CONTROL, JOB, spy_on

from hotloop.real_robot.config import CameraConfig, RobotConfig
from hotloop.real_robot.runtime.job import RunConfig
from hotloop.real_robot.runtime.keyboard import Keyboard
from hotloop.real_robot.runtime.supervisor import supervise
from hotloop.real_robot.teleop.config import TeleopConfig
from hotloop.train.cli import main
from hotloop.train.commands.recording import recorded_job
from hotloop.train.commands.recording_policy import RecordOptions
from hotloop.train.data.formats.registry import read_episodes
from hotloop.train.data.inspect import inspect_dataset

CAMERA = CameraConfig("mujoco", (48, 64), options={"model": "arm6", "view": "front"})
FILMED = replace(ARM, cameras={"front": CAMERA}, joints=JOINTS)
LONG = replace(JOB, duration=60.0)


class Pressing(Keyboard):
    """Presses keys when a line was heard, once each."""

    active = True

    def __init__(self, plan: list[tuple[str, str]]) -> None:
        self.lines: list[str] = []
        self.plan = plan
        self.heard = 0

    def keys(self) -> str:
        for index in range(self.heard, len(self.lines)):
            if self.plan and self.plan[0][0] in self.lines[index]:
                self.heard = index + 1
                return self.plan.pop(0)[1]
        return ""


def run(robot: RobotConfig, job: RunConfig, plan: list[tuple[str, str]]):
    keyboard = Pressing(plan)
    return supervise(robot, job, keyboard.lines.append, keyboard), keyboard.lines


def job(path: Path, base: RunConfig, **options) -> RunConfig:
    return recorded_job(FILMED, RecordOptions(str(path), "wave", **options), base)


@pytest.mark.realtime
@pytest.mark.parametrize("pictures", ["video", "png"])
def test_episodes_of_a_policy_with_pictures(tmp_path: Path, pictures) -> None:
    path = tmp_path / "data"
    recording = job(path, LONG, policy=JOB.policy, pictures=pictures, episodes=2, episode_time=0.5,
                    reset=(0.0,) * 6)  # fmt: skip
    summary, lines = run(FILMED, recording, [])
    assert summary["ended_by"] == "2 episodes" and summary["clean_end"]
    assert sum("kept: " in line for line in lines) == 2
    assert inspect_dataset(path).problems == ()
    episodes = read_episodes(path, everything=True)
    # A loaded machine looks late; the grid of frames stays the same.
    assert all(4 <= length <= 6 for length in np.diff(episodes.episode_ends, prepend=0))
    images = np.asarray(episodes.observations["observation.images.front"][:])
    assert images.shape == (episodes.num_steps, 48, 64, 3) and images.std() > 5
    assert episodes.metadata["action_names"] == [f"{name} [rad]" for name in JOINTS]
    assert episodes.metadata["robot_type"] == "arm"


@pytest.mark.realtime
def test_an_episode_that_an_operator_stops_is_dropped_and_the_end_of_the_run_keeps(
    tmp_path,
) -> None:
    path = tmp_path / "data"
    stopped = job(path, LONG, policy=JOB.policy)
    _, lines = run(FILMED, stopped, [("recording: wave", " "), ("-> STOP", "q")])
    assert "episode dropped: the robot was stopped" in lines
    assert not path.exists()
    summary, _ = run(FILMED, job(path, replace(JOB, duration=0.6), policy=JOB.policy), [])
    assert summary["ended_by"] == "duration"
    assert inspect_dataset(path).num_episodes == 1


@pytest.mark.realtime
def test_rollouts_of_several_runs_become_one_dataset(tmp_path: Path, capsys) -> None:
    path = tmp_path / "data"
    for task in ("wave", "nod"):
        words = [f"record={path}", f"task={task}", "duration=0.5", f"output_dir={tmp_path / task}"]
        assert main(["control", "robot=mujoco-arm", *words]) == 0
        assert "kept: " in capsys.readouterr().out
    episodes = read_episodes(path, everything=True)
    assert episodes.num_episodes == 2 and episodes.metadata["tasks"] == ["wave", "nod"]


@pytest.mark.realtime
def test_kill_9_of_the_policy_leaves_all_episodes_that_were_kept(tmp_path, monkeypatch) -> None:
    path, started = tmp_path / "data", spy_on(monkeypatch)
    recording = job(path, LONG, policy=JOB.policy)
    keyboard = Pressing([("recording: wave", "k"), ("kept: ", "s")])

    def say(line: str) -> None:
        keyboard.lines.append(line)
        if line == "recording: wave" and keyboard.lines.count(line) == 2:
            os.kill(started["policy_process"].pid, signal.SIGKILL)

    summary = supervise(FILMED, recording, say, keyboard)
    assert summary["ended_by"] == "policy died"
    report = inspect_dataset(path)
    assert report.num_episodes == 1 and report.problems == ()
    run(FILMED, job(path, replace(JOB, duration=0.5), policy=JOB.policy), [])
    assert inspect_dataset(path).num_episodes == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"], "something is left over"


@pytest.mark.realtime
def test_an_arm_follows_a_leader_on_a_servo_bus(tmp_path: Path) -> None:
    """The leader is held at first, and limp as soon as it leads."""
    place = np.array([0.4, -0.3, 0.2, 0.1, -0.2, 0.3])
    with limp_bus("feetech") as bus:
        bus.servos.plant.torque[:] = True
        bus.servos.plant.pose(place, np.zeros(0))
        options = {"port": bus.port, "reply_timeout": 0.2, "zero": [2048] * 6}
        options["direction"] = [1] * 6
        leader = RobotConfig("leader", "feetech", CONTROL, options, JOINTS)
        teleop = TeleopConfig("leader", leader)
        recording = job(tmp_path / "data", RunConfig("", duration=60.0), teleop=teleop, fps=20.0,
                        episodes=1, episode_time=2.5)  # fmt: skip
        summary, _ = run(FILMED, recording, [("-> RUN", "s")])
        assert not bus.servos.plant.torque.any()
        assert np.array_equal(bus.servos.plant.position, place)
    assert summary["ended_by"] == "1 episodes" and not summary["limit_violations"]
    episodes = read_episodes(tmp_path / "data", everything=True)
    assert 40 <= episodes.num_steps <= 51 and episodes.infos["intervention"].all()
    assert np.allclose(episodes.actions[-1], place, atol=0.01)
    assert np.allclose(episodes.observations["observation.state"][-1], place, atol=0.05)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("dataset=DATA task=wave", "say how the robot is moved: leader=FILE"),
        ("task=wave teleop.by=keyboard", "dataset has no default"),
        ("dataset=DATA teleop.by=keyboard task=''", "a recording says what the robot is asked"),
        ("dataset=DATA task=wave teleop.by=feet", "teleop.by"),
        ("dataset=DATA task=wave teleop.by=keyboard fps=0", "fps must be 1 to 200 Hz"),
        ("dataset=DATA task=wave teleop.by=keyboard reset=[0,0]", "reset needs 6 positions"),
        ("dataset=DATA task=wave teleop.by=keyboard reset=[0,0,9,0,0,0]", "outside of its limits"),
        ("dataset=DATA task=wave teleop.by=keyboard episodes=-1", "must be 0 or more"),
        ("dataset=DATA task=wave teleop.by=keyboard teleop.speed=3", "is a share in"),
        ("dataset=DATA task=wave leader.options.port=/dev/x", "give the leader arm's robot file"),
        ("dataset=DATA task=wave leader=feetech", "leader: robot feetech is a template"),
        (
            "dataset=DATA task=wave robot=feetech robot.template=false teleop.by=hand",
            "does not say where its joints have their zeros",
        ),
        ("dataset=DATA task=wave leader=emulated-arm leader.nonsense=1", "leader: unknown key"),
        ("dataset=DATA task=wave teleop.by=keyboard leader=mujoco-arm", "needs no leader arm"),
        ("dataset=DATA task=wave teleop.by=hand", "cannot be led by hand"),
        (
            "dataset=DATA task=wave robot=emulated-arm robot.options.port=/dev/x "
            "leader=emulated-arm leader.options.port=/dev/x",
            "robot and leader are both at /dev/x; each arm has a bus of its own",
        ),
        (
            "dataset=DATA task=wave teleop.by=hand reset=[0,0,0,0,0,0]",
            "torque off and goes nowhere",
        ),
    ],
)
def test_mistakes_are_told_before_anything_is_opened(tmp_path, capsys, words, message) -> None:
    given = words.replace("DATA", str(tmp_path / "data")).split()
    assert main(["record", *given]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("task=wave", "give record=DATASET as well"),
        ("leader=mujoco-arm", "give record=DATASET as well"),
        ("record=DATA", "a recording says what the robot is asked to do"),
        ("record=DATA task=wave teleop.by=hand", "a robot that a policy moves has its torque on"),
    ],
)
def test_mistakes_about_rollouts_are_told_too(tmp_path, capsys, words, message) -> None:
    given = words.replace("DATA", str(tmp_path / "data")).split()
    assert main(["control", "robot=mujoco-arm", *given]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
