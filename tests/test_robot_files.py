"""A robot file of one's own, drivers and policies of one's own, from emulator to control."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotloop.real_robot.config import ControlConfig
from hotloop.real_robot.logs.reader import read_log
from hotloop.train.cli import main
from hotloop.train.config.compose import compose

ARM = """\
base: feetech
name: my-arm
joints: [base, lift, elbow, wrist, roll, claw]
options:
  ids: [7, 2, 3, 4, 5, 6]
  baud: 500000
  reply_timeout: 0.2
  zero: [2048, 2048, 2048, 2048, 2048, 2048]
  direction: [1, 1, 1, 1, 1, 1]
control:
  slow_start: 0.2
  speed: 0.5
"""


@pytest.fixture
def arm(tmp_path) -> Path:
    path = tmp_path / "my_arm.yaml"
    path.write_text(ARM)
    return path


@contextmanager
def emulated(*arguments: str):
    """Port of an emulator that runs as a command."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hotloop.train.cli", "emulate", "servo-bus", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield next(line for line in process.stdout if line.startswith("port: ")).split()[1]
    finally:
        process.terminate()
        process.communicate()


def test_a_robot_file_says_only_what_differs(arm) -> None:
    mine = compose("control", [f"robot={arm}", "robot.options.port=/dev/x"], ControlConfig).robot
    base = compose("control", ["robot=feetech"], ControlConfig).robot
    assert (mine.name, mine.driver) == ("my-arm", "feetech")
    expected = {"ids": [7, 2, 3, 4, 5, 6], "baud": 500_000, "reply_timeout": 0.2, "port": "/dev/x"}
    calibration = {"zero": [2048] * 6, "direction": [1] * 6}
    assert mine.options == {**base.options, **expected, **calibration}
    assert base.template and not base.calibrated and mine.calibrated
    assert mine.control.limits == base.control.limits
    assert mine.control.speed == 0.5 and mine.joints[0] == "base"


def test_one_file_serves_emulator_doctor_and_control(arm, tmp_path, capfd) -> None:
    out = tmp_path / "run"
    with emulated(f"robot={arm}") as port:
        robot = [f"robot={arm}", f"robot.options.port={port}"]
        main(["doctor", *robot, "--seconds", "0.05"])
        text = capfd.readouterr().out
        assert "0 of 200 reads failed" in text and "joints at [" in text
        wide = "robot.control.tracking_error=[1,1,1,1,1,1]"
        code = main(["control", *robot, "duration=1.5", wide, f"output_dir={out}"])
    assert code == 0, capfd.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert summary["robot"] == "my-arm" and summary["accepted_chunks"] > 3
    assert read_log(out / "log.mcap").robot.options["ids"] == [7, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["dynamixel", "feetech"])
def test_a_template_moves_nothing_until_it_was_calibrated(name, capfd) -> None:
    port = "robot.options.port=/dev/no-such-bus"
    zero = "robot.options.zero=[2048,2048,2048,2048,2048,2048]"
    direction = "robot.options.direction=[1,1,1,1,1,1]"
    for given in ([], [zero], [direction]):
        assert main(["control", f"robot={name}", port, *given]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert f"robot {name} is a template" in line and "hotloop calibrate" in line
    # With both the run goes on, here until the port that is not there.
    assert main(["control", f"robot={name}", port, zero, direction]) != 0
    assert "/dev/no-such-bus cannot be opened" in capfd.readouterr().err


def test_the_emulated_arm_runs_as_it_is_shipped(capfd) -> None:
    with emulated() as port:
        arguments = ["robot=emulated-arm", f"robot.options.port={port}", "duration=0.5"]
        # On a busy machine the servos' watchdogs and the loop have to wait for each other.
        patient = ["robot.options.watchdog=2.5", "robot.options.reply_timeout=0.5"]
        code = main(["control", *arguments, *patient, "robot.control.tracking_error=[1,1,1,1,1,1]"])
    assert code == 0, capfd.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["robot=mujoco-arm"],
            "a servo bus is emulated for dynamixel and feetech",
        ),
        (["robot=dynamixel-table"], "the model has 6 joints and needs as many different IDs"),
        (["robot=feetech", "robot.options.baud=123"], "Feetech STS servos have 38400"),
        (["robot=none.yaml"], "there is no such file"),
        (["--baud", "0"], "baud must be positive"),
        (["--drop", "7"], "shares from 0 to 1"),
    ],
)
def test_what_cannot_be_emulated_is_one_line(arguments, message, capsys) -> None:
    assert main(["emulate", "servo-bus", "--duration", "0.1", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_flag_counts_more_than_the_robot(arm) -> None:
    with emulated(f"robot={arm}", "--baud", "1000000", "--duration", "5") as port:
        assert re.fullmatch(r"/dev/pts/\d+", port)


MODULE = '''
import dataclasses
import numpy as np
from hotloop.real_robot.drivers.dry_run import DryRunDriver
from hotloop.real_robot.policies.protocol import PolicyKind


class Wave:
    """Swings the first joint."""

    period, cameras = 0.05, ()

    def __init__(self, robot, options):
        if options.given.get("amplitude", [0.0])[0] > 1:
            raise ValueError("the amplitude is too large")

    def reset(self, seed):
        self.begin = None

    def plan(self, snapshot):
        self.begin = snapshot.time if self.begin is None else self.begin
        times = snapshot.time + np.arange(1, 11) * 0.05
        waypoints = np.tile(snapshot.position, (10, 1))
        waypoints[:, 0] = 0.3 * np.sin(times - self.begin)
        return snapshot.chunk(times, waypoints)


class Arm(DryRunDriver):
    """A driver of one's own."""


def prepare(robot, seed):
    return dataclasses.replace(robot, options={"scene": [float(seed)]})


KIND = PolicyKind(
    Wave, settings=("given",), prepare=prepare, score=lambda log: len(log.cycles) / 1e6
)
'''


OWN_ROBOT = """\
name: own
driver: own_things:Arm
control:
  dt: 0.01
  limits: {low: [-1.0, -1.0], high: [1.0, 1.0], velocity: [2.0, 2.0], acceleration: [9.0, 9.0],
           jerk: [99.0, 99.0]}
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> str:
    """Override that chooses a robot without a base, whose driver is one's own."""
    (tmp_path / "own_things.py").write_text(MODULE)
    (tmp_path / "own.yaml").write_text(OWN_ROBOT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return f"robot={tmp_path / 'own.yaml'}"


@pytest.mark.parametrize("policy", ["Wave", "KIND"])
def test_a_driver_and_a_policy_of_ones_own_run_by_name(own, policy, tmp_path, capfd) -> None:
    out = tmp_path / policy
    arguments = [own, f"policy=own_things:{policy}", "duration=0.5", "seed=4", f"output_dir={out}"]
    assert main(["control", *arguments]) == 0, capfd.readouterr()
    log, summary = read_log(out / "log.mcap"), json.loads((out / "summary.json").read_text())
    assert log.column("command")[:, 0].max() > 0.01
    if policy == "KIND":
        assert summary["score"] == len(log.cycles) / 1e6
        assert (log.column("state.sensors") == 4).all(), "prepare has set the scene"
        assert "score 0.00" in capfd.readouterr().out
    else:
        assert summary["score"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["policy=own_things:KIND", "latency=2"], "does not read the setting latency"),
        (["policy=own_things:Wave", "given.amplitude=[3.0]"], "policy: the amplitude is too large"),
        (["policy=own_things:None_"], "module 'own_things' has no 'None_'"),
        (["robot.driver=nowhere:Arm"], "driver 'nowhere:Arm': module 'nowhere' cannot be imported"),
    ],
)
def test_mistakes_with_ones_own_things_are_one_line(own, arguments, message, capfd) -> None:
    assert main(["control", own, *arguments]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line
