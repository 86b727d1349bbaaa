"""Lines of text that let something happen to an emulated arm."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from hotloop.real_robot.emulator.bus import PROTOCOLS
from hotloop.real_robot.emulator.outside import HAPPENINGS, happen
from hotloop.real_robot.emulator.plant import Plant


def arm(protocol: str = "dynamixel"):
    servos = PROTOCOLS[protocol](Plant("arm6"), range(1, 7))
    for number in servos.tables:
        servos.tables[number][{"dynamixel": 64, "feetech": 40}[protocol]] = 1
        servos.power(number, True)
    return servos


@pytest.mark.parametrize("protocol", ["dynamixel", "feetech"])
@pytest.mark.parametrize("line", ["reboot 3", "relax 3", "fail 3"])
def test_a_servo_becomes_limp(line, protocol) -> None:
    servos = arm(protocol)
    assert happen(servos, line) == f"done: {line}"
    assert servos.plant.torque.tolist() == [True, True, False, True, True, True]


def test_hands_obstacles_and_cables() -> None:
    servos = arm()
    happen(servos, "move 2 0.5")
    assert servos.plant.position[2] == 0.5
    happen(servos, "plug 0 4")
    assert list(servos.tables) == [1, 5]
    before = np.array(servos.plant.model.jnt_range)
    happen(servos, "block 0 -0.1 0.1")
    assert (servos.plant.model.jnt_range != before).any()
    happen(servos, "clear")
    np.testing.assert_array_equal(servos.plant.model.jnt_range, before)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("explode", "what can happen: plug JOINT ...; reboot SERVO"),
        ("", "what can happen"),
        ("reboot", r"expected 'reboot SERVO' with servos \[1, 2, 3, 4, 5, 6\]"),
        ("reboot 9", "got 'reboot 9'"),
        ("reboot three", "got 'reboot three'"),
        ("move 6 0", "joints 0 to 5; got 'move 6 0'"),
        ("move -1 0", "got 'move -1 0'"),
        ("block 0 1", "expected 'block JOINT LOW HIGH'"),
        ("move 0 nan", "got 'move 0 nan'"),
    ],
)
def test_what_cannot_happen_is_said(line, message) -> None:
    with pytest.raises(ValueError, match=message):
        happen(arm(), line)


def test_feetech_servos_have_no_watchdog_to_trip() -> None:
    with pytest.raises(ValueError, match="expected 'trip SERVO'"):
        happen(arm("feetech"), "trip 3")
    assert set(HAPPENINGS) > {"trip", "plug"}


@pytest.mark.parametrize("new", [False, True])
def test_the_command_reads_its_input_and_goes_on_when_that_has_ended(new) -> None:
    arguments = ["emulate", "servo-bus", "--duration", "1.5", *(["--new"] if new else [])]
    process = subprocess.run(
        [sys.executable, "-m", "hotloop.train.cli", *arguments],
        input="plug 1\nreboot 2\nnonsense\n",
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    _, plugged, rebooted, unknown, packets = process.stdout.splitlines()
    assert plugged == "done: plug 1" and packets == "0 packets answered"
    # Fresh from the box it is servo 1, whichever joint it is of.
    assert rebooted.startswith("expected" if new else "done: reboot 2")
    assert unknown.startswith("what can happen")


def test_a_hand_holds_the_limp_arm_until_it_lets_go() -> None:
    """Otherwise an arm that is calibrated would fall between one question and the next."""
    servos = PROTOCOLS["feetech"](Plant("arm6"), range(1, 7))
    plant = servos.plant
    for number in servos.tables:
        servos.power(number, False)
    for joint in range(6):
        happen(servos, f"move {joint} 0.3")
    for cycle in range(300):
        plant.catch_up(0.01 * cycle)
    np.testing.assert_allclose(plant.position, 0.3, atol=0.02)
    happen(servos, "drop")
    for cycle in range(300, 500):
        plant.catch_up(0.01 * cycle)
    assert np.abs(plant.position - 0.3).max() > 0.1


def test_a_servo_with_torque_drags_its_joint_back_from_the_hand() -> None:
    servos = arm()
    happen(servos, "relax 3")
    happen(servos, "move 0 0.5")
    for cycle in range(300):
        servos.plant.catch_up(0.01 * cycle)
    assert abs(servos.plant.position[0]) < 0.02 and servos.plant.held.tolist() == [
        False, False, True, False, False, False,
    ]  # fmt: skip
