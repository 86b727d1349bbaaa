"""Options of a servo bus that cannot be true of the hardware, refused before the bus is opened."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.controller_config import ControllerConfig
from hotloop.real_robot.core.limits import Limits
from hotloop.real_robot.drivers import make_driver
from hotloop.real_robot.drivers.servo_options import FAMILIES, servo_options

TURN = 2 * np.pi / 4096
BOTH = pytest.mark.parametrize("family", ["dynamixel", "feetech"])


def robot(family: str, dt: float = 0.01, low: float = -1.5, high: float = 1.5, **options):
    limits = Limits((low,) * 3, (high,) * 3, (2.0,) * 3, (10.0,) * 3, (400.0,) * 3)
    settings = {"port": "/dev/none", **options}
    return RobotConfig("arm", family, ControllerConfig(limits, dt), settings)


@BOTH
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ids": [1, 1, 3]}, "joints 0 and 1 cannot share servo 1"),
        ({"ids": [1, 2]}, "ids needs 3 values, got 2"),
        ({"ids": [1, 2, 254]}, "has an ID from 0 to 25[23], got 254 for joint 2"),
        ({"ids": [1, 2, -1]}, "got -1 for joint 2"),
        ({"ids": [1, 2, 2.5]}, r"got 2\.5 for joint 2"),
        ({"ids": [1, 2, True]}, "ids must be a list of finite numbers"),
        ({"ids": 1}, "ids must be a list, got 1"),
        (
            {"zero": [2048, 2048, 5000]},
            "zero is an encoder count from 0 to 4095.* 5000 for",
        ),
        ({"zero": [2048, float("nan"), 2048]}, "zero must be a list of finite numbers"),
        ({"zero": [2048, 500, 2048]}, r"limits of joint 1 go from -1\.5 to 1\.5.* from -0\.767 to"),
        ({"direction": [1, 0, -1]}, "direction must be 1 or -1 per joint, got 0 for joint 1"),
        ({"baud": 1_234_567}, "servos have .*1000000.*, got 1234567"),
        ({"baud": True}, "baud must be a whole number, got True"),
        ({"baud": "1000000"}, "baud must be a whole number, got '1000000'"),
        ({"reply_timeout": 0}, "reply_timeout must be from 0.0001 to 1.0 s"),
        ({"reply_timeout": 5.0}, "for which the loop hears nobody .* got 5"),
        ({"torque_limit": [1, 1, 1e-9]}, "a share of a joint's torque, .* got 1e-09 for joint 2"),
        ({"tracker": 70_000, "tracker_size": 3}, "tracker is a UDP port"),
        ({"port": ""}, "needs the option port"),
        ({"prot": 3}, "unknown driver option 'prot'"),
    ],
)
def test_what_cannot_be_is_refused(family, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_driver(robot(family, **options))


@BOTH
def test_limits_may_reach_to_the_last_encoder_count_and_not_further(family) -> None:
    low, high = -2048 * TURN, 2047 * TURN
    servo_options(robot(family, low=low, high=high))
    with pytest.raises(ValueError, match="counts only from"):
        servo_options(robot(family, low=low, high=high + TURN))
    # The other way round the servo counts one less below and one more above.
    servo_options(robot(family, low=-high, high=-low, direction=[-1] * 3))
    with pytest.raises(ValueError, match=r"from -3\.140 to 3\.142 rad"):
        servo_options(robot(family, low=low, high=high, direction=[-1] * 3))


@pytest.mark.parametrize(
    ("family", "num_bytes"),
    # Three servos: what is asked, answered and written, counted in the makers' protocols.
    [("dynamixel", 14 + 3 + 3 * 19 + 14 + 3 * 5), ("feetech", 8 + 3 + 3 * 10 + 8 + 3 * 3)],
)
def test_a_period_that_the_wire_cannot_keep_is_refused(family, num_bytes) -> None:
    shortest = num_bytes * 10 / 1_000_000
    watchdog = {"watchdog": 0.1} if family == "dynamixel" else {}
    servo_options(robot(family, dt=1.001 * shortest, **watchdog))
    with pytest.raises(ValueError, match=f"need {num_bytes} bytes per cycle.*longer than"):
        servo_options(robot(family, dt=0.999 * shortest, **watchdog))


@BOTH
def test_the_count_of_bytes_is_that_of_the_makers_sdk(family) -> None:
    """Every byte that one read and one write put on an emulated wire."""
    import threading

    from hotloop.real_robot.core.limits import Motion
    from hotloop.real_robot.emulator.bus import PROTOCOLS, ServoBus
    from hotloop.real_robot.emulator.plant import Plant

    going, seen = threading.Event(), []
    going.set()
    with ServoBus(PROTOCOLS[family](Plant("arm6"), range(1, 7))) as bus:
        handle = bus.servos.handle

        def listening(packet: bytes, now: float):
            answers = handle(packet, now)
            seen.append(len(packet) + sum(len(answer) for _, answer in answers))
            return answers

        bus.servos.handle = listening
        thread = threading.Thread(target=bus.serve, args=(going.is_set,))
        thread.start()
        limits = Limits((-1.0,) * 6, (1.0,) * 6, (2.0,) * 6, (10.0,) * 6, (400.0,) * 6)
        control = ControllerConfig(limits, 0.01)
        options = {"port": bus.port, "reply_timeout": 0.5}
        driver = make_driver(RobotConfig("arm", family, control, options))
        driver.connect()
        seen.clear()
        driver.write(Motion.at_rest(driver.read().position))
        driver.read()
        driver.disconnect(torque_off=False)
        going.clear()
        thread.join()
    per_bus, per_servo = FAMILIES[family].cycle_bytes
    assert sum(seen[:2]) == per_bus + 6 * per_servo


def test_a_watchdog_is_one_that_the_servos_have() -> None:
    for watchdog in (0.0, 0.01, 2.6, -1.0):
        with pytest.raises(ValueError, match=r"watchdog must be longer than control\.dt"):
            servo_options(robot("dynamixel", watchdog=watchdog))
    assert servo_options(robot("dynamixel", watchdog=2.5)).watchdog == 2.5
    with pytest.raises(ValueError, match="Feetech STS servos have no watchdog"):
        servo_options(robot("feetech", watchdog=0.1))


def test_a_franka_arm_has_the_limits_that_it_has() -> None:
    from hotloop.real_robot.config import ControlConfig
    from hotloop.train.config.compose import compose

    made = compose("control", ["robot=franka", "robot.options.address=1.2.3.4"], ControlConfig)
    good = made.robot
    limits = replace(good.control.limits, high=(3.0, *good.control.limits.high[1:]))
    for change, message in (
        (
            {"control": replace(good.control, limits=limits)},
            r"high of joint 0 is 3, .* 2\.8973",
        ),
        ({"options": {**good.options, "fraction": 1.5}}, r"must be in \(0, 1\]"),
        ({"options": {**good.options, "backend": "magic"}}, "'magic'"),
    ):
        with pytest.raises(ValueError, match=message):
            make_driver(replace(good, **change))


@pytest.mark.parametrize("command", ["control", "doctor"])
def test_the_commands_refuse_in_one_line_without_opening_the_port(command, tmp_path) -> None:
    port = tmp_path / "no-such-port"
    arguments = ["robot=feetech", f"robot.options.port={port}", "robot.options.ids=[1,1,3,4,5,6]"]
    extra = ["--seconds", "0.1"] if command == "doctor" else []
    process = subprocess.run(
        [sys.executable, "-m", "hotloop.train.cli", command, *arguments, *extra],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert "cannot share servo 1" in line and str(port) not in line
