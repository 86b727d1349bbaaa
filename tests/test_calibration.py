"""`hotloop calibrate`: an emulated arm is moved by hand, and its robot file says what is true."""

from __future__ import annotations

import numpy as np
import pytest
from moved_by_hand import DIRECTION, HIGH, JOINTS, LOW, TICK, ZERO, Helper, limp_bus

from hotloop.real_robot.calibration import session
from hotloop.real_robot.calibration.session import Calibration, Wishes
from hotloop.real_robot.config import ControlConfig, RobotConfig
from hotloop.real_robot.drivers import make_driver
from hotloop.train.config.compose import compose

BOTH = pytest.mark.parametrize("protocol", ["dynamixel", "feetech"])


def template(protocol: str, port: str, *overrides: str) -> RobotConfig:
    settings = [f"robot={protocol}", f"robot.options.port={port}", *overrides]
    return compose("control", [*settings, "robot.options.reply_timeout=0.2"], ControlConfig).robot


def calibrate(robot: RobotConfig, helper: Helper, wishes: Wishes) -> Calibration:
    return session.calibrate(robot, helper, wishes, sleep=lambda seconds: None)


@BOTH
def test_what_was_measured_is_what_the_arm_is(protocol) -> None:
    with limp_bus(protocol) as bus:
        helper, robot = Helper(bus), template(protocol, bus.port)
        found = calibrate(robot, helper, Wishes(margin=0.05))
        np.testing.assert_allclose((found.zero - 2048) * TICK, ZERO, atol=TICK)
        np.testing.assert_array_equal(found.direction, DIRECTION)
        ends = DIRECTION * (np.stack([LOW, HIGH]) - ZERO)
        np.testing.assert_allclose(found.low, ends.min(axis=0) + 0.05, atol=4e-3)
        np.testing.assert_allclose(found.high, ends.max(axis=0) - 0.05, atol=4e-3)
        # The driver reads an arm at rest in joint angles of the calibration.
        helper.put(ZERO + 0.2 * DIRECTION)
        made = found.applied(robot)
        assert made.calibrated and not robot.calibrated
        driver = make_driver(made)
        driver.connect()
        np.testing.assert_allclose(driver.read().position, 0.2, atol=3 * TICK)
        driver.disconnect(torque_off=True)
    assert not any("ID" in question for question in helper.asked)


@BOTH
def test_zero_may_be_the_middle_of_the_range(protocol) -> None:
    with limp_bus(protocol) as bus:
        found = calibrate(template(protocol, bus.port), Helper(bus), Wishes(middle=True))
    np.testing.assert_allclose((found.zero - 2048) * TICK, (LOW + HIGH) / 2, atol=2 * TICK)
    np.testing.assert_allclose(found.low, -found.high, atol=4e-3)


def test_a_stiff_arm_is_let_go_after_a_warning() -> None:
    with limp_bus("feetech") as bus:
        for table in bus.servos.tables.values():
            table[40] = 1
        helper = Helper(bus)
        calibrate(template("feetech", bus.port), helper, Wishes())
        assert "may fall" in helper.asked[0]
        assert not any(table[40] for table in bus.servos.tables.values())


def test_mistakes_of_the_hand_are_named_and_asked_for_again() -> None:
    with limp_bus("dynamixel") as bus:
        mistakes = iter(["another joint", "too little", "right"])

        def changed(question: str) -> str | None:
            if "positive" not in question or JOINTS[0] not in question:
                return None
            mistake = next(mistakes)
            if mistake == "right":
                return None
            helper.turn(*((2, 0.5) if mistake == "another joint" else (0, 0.01)))
            return ""

        helper = Helper(bus, changed)
        found = calibrate(template("dynamixel", bus.port), helper, Wishes())
    assert "elbow_flex (servo 3) moved, expected shoulder_pan (servo 1)" in helper.said[0]
    assert "shoulder_pan (servo 1) moved by 0.6 degrees" in helper.said[1]
    np.testing.assert_array_equal(found.direction, DIRECTION)
    assert next(mistakes, None) is None


def test_only_servos_are_calibrated_by_hand() -> None:
    robot = compose("control", ["robot=mujoco-arm"], ControlConfig).robot
    with pytest.raises(ValueError, match="driver 'mujoco'; what is calibrated by hand are servos"):
        calibrate(robot, Helper, Wishes())
    with pytest.raises(ValueError, match=r"margin must be from 0 to 0\.5 rad, got nan"):
        Wishes(margin=float("nan"))
