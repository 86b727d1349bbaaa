"""`hotloop calibrate` as a command: questions and answers in pipes, and the file that it leaves."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from moved_by_hand import DIRECTION, HIGH, TICK, ZERO, Helper, limp_bus

from hotloop.real_robot.config import ControlConfig
from hotloop.real_robot.emulator.bus import ServoBus
from hotloop.real_robot.logs.reader import read_log
from hotloop.train.cli import main
from hotloop.train.commands.own_robot import OwnRobot
from hotloop.train.config.compose import compose


def run(bus: ServoBus, *arguments: str) -> tuple[int, str]:
    """The command, answered by a helper who reads its questions."""
    helper, shown = Helper(bus), []
    with subprocess.Popen(
        [sys.executable, "-m", "hotloop.train.cli", "calibrate", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for line in process.stdout:
            shown.append(line)
            if "whole range" in line:
                # The command looks while it waits: give it the time to see each place.
                answer = helper.ask_while(line, lambda: bus_has_answered(bus))
            elif "Enter" in line or "[y/n]" in line:
                answer = helper.ask(line)
            else:
                continue
            process.stdin.write(f"{answer}\n")
            process.stdin.flush()
    return process.returncode, "".join(shown)


def bus_has_answered(bus: ServoBus) -> str:
    """Wait until the arm was read where it is now."""
    before, patience = bus.num_packets, time.monotonic() + 1
    while bus.num_packets < before + 2 and time.monotonic() < patience:
        time.sleep(0.005)
    return ""


def composed(path: Path) -> ControlConfig:
    return compose("control", [f"robot={path}"], ControlConfig)


def test_a_file_is_written_that_control_takes_and_nothing_is_lost(tmp_path) -> None:
    path = tmp_path / "desk.yaml"
    with limp_bus("feetech") as bus:
        robot = ["robot=feetech", f"robot.options.port={bus.port}"]
        code, text = run(bus, *robot, "--output", str(path))
        assert code == 0, text
        first = path.read_text()
        made = composed(path).robot
        assert made.name == "desk" and made.options["port"] == bus.port and made.calibrated
        np.testing.assert_array_equal(made.options["direction"], DIRECTION)
        found = (np.array(made.options["zero"]) - 2048) * TICK
        np.testing.assert_allclose(found, ZERO, atol=TICK)
        assert first.startswith("# Measured with `hotloop calibrate`, 20")
        assert "# Encoder counts at 0 rad: the arm was put" in first
        assert re.search(r"# shoulder_pan: -1\.6\d\d to 1\.\d+ rad \(counts \d+ to \d+\)", first)
        assert "velocity:" not in first, "what its base says is not repeated"

        # Settings of the user's own stay when the arm is measured again, and so does the file.
        path.write_text(first + "torque_off: true\ncameras:\n  a: {driver: opencv, size: [4, 4]}\n")
        code, text = run(bus, f"robot={path}", "--middle")
        assert code == 2 and f"{path} exists already; --overwrite" in text
        code, text = run(bus, f"robot={path}", "--middle", "--overwrite")
        assert code == 0, text
    again = composed(path).robot
    assert again.torque_off and again.cameras["a"].size == (4, 4) and again.name == "desk"
    assert again.options["zero"] != made.options["zero"]
    (kept,) = tmp_path.glob("desk.old-*.yaml")
    assert "torque_off: true" in kept.read_text() and str(kept) in text
    assert composed(kept).robot.options == made.options


def test_from_calibration_to_a_first_run(tmp_path, capfd, monkeypatch) -> None:
    """An arm that was measured is one that the doctor finds sound, and it moves in its limits."""
    path, out = tmp_path / "arm.yaml", tmp_path / "run"
    monkeypatch.setattr("hotloop.real_robot.doctor.robot.NUM_READS", 20)
    with limp_bus("dynamixel") as bus:
        robot = ["robot=dynamixel", f"robot.options.port={bus.port}"]
        code, text = run(bus, *robot, "robot.options.reply_timeout=0.5", "--output", str(path))
        assert code == 0, text
        helper = Helper(bus)
        helper.put(HIGH)
        mine, short = [f"robot={path}"], ["--seconds", "0.05"]
        main(["doctor", *mine, *short])
        text = capfd.readouterr().out
        assert "FAIL joints at [" in text and "move them there by hand" in text
        helper.put(ZERO)
        main(["doctor", *mine, *short])
        assert "ok   joints at [" in capfd.readouterr().out
        del bus.servos.plant.catch_up  # From here on, it moves by itself.
        slow = ["robot.control.speed=0.3", "robot.control.dt=0.02", "duration=1"]
        code = main(["control", *mine, *slow, "policy=reach", f"output_dir={out}"])
        told = capfd.readouterr()
        assert code == 0, told
    command = read_log(out / "log.mcap").column("command")
    assert np.ptp(command, axis=0).max() > 0.02
    low, high = composed(path).robot.control.limits.arrays[:2]
    assert (low <= command[-1]).all() and (command[-1] <= high).all()


def test_answers_that_end_too_early_write_nothing(tmp_path, capfd) -> None:
    path = tmp_path / "arm.yaml"
    with limp_bus("feetech") as bus:
        arguments = ["robot=feetech", f"robot.options.port={bus.port}", "--output", str(path)]
        process = subprocess.run(
            [sys.executable, "-m", "hotloop.train.cli", "calibrate", *arguments],
            input="\n",
            capture_output=True,
            text=True,
        )
    (line,) = process.stderr.splitlines()
    assert process.returncode == 2 and "no file was written" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["robot=mujoco-arm"], "driver 'mujoco'; what is calibrated by hand are servos"),
        (["robot=feetech"], "needs the option port"),
        (["robot=feetech", "robot.options.port=/dev/no"], "/dev/no cannot be opened"),
        (["robot=feetech", "--output", "arm.txt"], "a robot file ends in .yaml, got arm.txt"),
        (["robot=feetech", "--output", "there.yaml"], "there.yaml exists already"),
        (["robot=feetech", "--output", "there.yaml", "--overwrite"], "not valid YAML"),
        (["robot=feetech", "--output", "there.yaml/arm.yaml"], "nothing can be written into"),
        (["robot=feetech", "--margin", "3"], "margin must be from 0 to 0.5 rad, got 3"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_asked(
    arguments, message, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.yaml").write_text("[unfinished\n")
    assert main(["calibrate", *arguments]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert message in line and not captured.out
    assert Path("there.yaml").read_text() == "[unfinished\n"


def test_a_file_refines_the_one_that_it_was_measured_from(tmp_path) -> None:
    """Measured from a file of one's own into another: the first one stays the base."""
    arm = tmp_path / "arms" / "arm.yaml"
    arm.parent.mkdir()
    arm.write_text("base: feetech\nname: arm\noptions: {port: /dev/x}\n")
    target = OwnRobot.at(str(tmp_path / "made.yaml"), [f"robot={arm}"])
    assert target.base == "arms/arm.yaml"
    config = composed(arm)
    config.robot.options["zero"] = [2000] * 6
    assert target.differing(config) == {
        "base": "arms/arm.yaml",
        "options": {"zero": [2000] * 6},
    }
    assert OwnRobot.at(None, [f"robot={arm}"]) == OwnRobot(arm, "feetech")
    assert OwnRobot.at(None, ["robot=feetech"]) == OwnRobot(Path("my_arm.yaml"), "feetech")
