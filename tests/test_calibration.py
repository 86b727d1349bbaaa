"""`hotloop calibrate`: an emulated arm is moved by hand, and its robot file says what is true."""

from __future__ import annotations

import numpy as np
import pytest
from moved_by_hand import DIRECTION, HIGH, JOINTS, LOW, TICK, ZERO, Helper, limp_bus

from hotloop.real_robot.calibration import ids, operator, session
from hotloop.real_robot.calibration.session import Calibration, Wishes
from hotloop.real_robot.config import ControlConfig, RobotConfig
from hotloop.real_robot.core.limits import Motion
from hotloop.real_robot.drivers import make_driver
from hotloop.real_robot.drivers.servo_registers import REGISTERS
from hotloop.train.config.compose import compose

# Looking for servos that are not there takes this long each.
HASTY = "robot.options.reply_timeout=0.02"
BOTH = pytest.mark.parametrize("protocol", ["dynamixel", "feetech"])


@pytest.fixture(autouse=True)
def _few_numbers_are_tried(monkeypatch) -> None:
    """Each that nobody has is waited for, at each baud rate."""
    monkeypatch.setattr(ids, "LAST_SCANNED", 7)


def template(protocol: str, port: str, *overrides: str) -> RobotConfig:
    settings = [f"robot={protocol}", f"robot.options.port={port}"]
    patience = "robot.options.reply_timeout=0.2"
    return compose("control", [*settings, patience, *overrides], ControlConfig).robot


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


@BOTH
def test_servos_from_the_box_get_ids_and_keep_them(protocol) -> None:
    """All have ID 1, and their family's factory baud rate; each is plugged in alone."""
    with limp_bus(protocol, ids=()) as bus:
        helper, robot = (
            Helper(bus),
            template(protocol, bus.port, HASTY, "robot.options.ids=[2,1,3,4,5,6]"),
        )
        found = calibrate(robot, helper, Wishes())
        np.testing.assert_array_equal(found.direction, DIRECTION)
        # Without power for a moment, what is left is what was written for good.
        bus.servos.plug_in(range(6))
        assert bus.servos.joints == {2: 0, 1: 1, 3: 2, 4: 3, 5: 4, 6: 5}
        baud = REGISTERS[protocol].bauds.index(1_000_000)
        for table in bus.servos.tables.values():
            assert table[REGISTERS[protocol].baud.address] == baud
            if protocol == "feetech":
                assert table[55] == 1, "the EEPROM is locked again"
        patient = template(protocol, bus.port, "robot.options.ids=[2,1,3,4,5,6]")
        driver = make_driver(found.applied(patient))
        driver.connect()
        driver.disconnect(torque_off=True)
    assert "cannot be found: the servos need their IDs" in helper.said[0]
    assert sum("Connect the servo of" in question for question in helper.asked) == 6


def test_a_servo_that_turned_a_wheel_becomes_a_joint() -> None:
    """Its ID and baud rate are right, its mode is not."""
    with limp_bus("feetech") as bus:
        bus.servos.keep(3, 33, b"\x01")
        helper = Helper(bus)
        calibrate(template("feetech", bus.port, HASTY), helper, Wishes(ids=True))
        bus.servos.plug_in(range(6))
        assert [table[33] for table in bus.servos.tables.values()] == [0] * 6
    assert sum("permanent memory" in question for question in helper.asked) == 1


def test_two_servos_at_once_are_not_given_one_id() -> None:
    with limp_bus("feetech", ids=()) as bus:
        attempts = iter(["two", "alone"])

        def changed(question: str) -> str | None:
            if "servo of shoulder_lift alone" in question and next(attempts) == "two":
                bus.servos.plug_in([0, 1])
                return ""
            return None

        helper = Helper(bus, changed)
        calibrate(template("feetech", bus.port, HASTY), helper, Wishes())
        assert bus.servos.joints == {1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5}
    assert any("expected one alone" in text or "no other servo" in text for text in helper.said)


def test_who_does_not_want_an_id_written_gets_none() -> None:
    with limp_bus("feetech", ids=()) as bus:
        helper = Helper(bus, lambda question: "n" if "Write ID" in question else None)
        robot = template("feetech", bus.port, HASTY, "robot.options.ids=[7,2,3,4,5,6]")
        with pytest.raises(ValueError, match="shoulder_pan keeps ID 1; nothing was written"):
            calibrate(robot, helper, Wishes())
        assert bus.servos.eeprom_writes == [0] * 6


def test_a_joint_across_its_encoders_seam_gets_an_offset() -> None:
    """A horn put on half a turn off: the middle of the joint's range reads 4095 and 0."""
    offset = np.array([0, 3.0, 0, 0, -2.5, 0])
    with limp_bus("feetech") as bus:
        helper, robot = Helper(bus, offset=offset), template("feetech", bus.port)
        # As LeRobot leaves a servo that it calibrated: an offset and a range of its own.
        for address, value in ((31, 300 | 1 << 11), (9, 1000), (11, 3000)):
            bus.servos.tables[2][address : address + 2] = value.to_bytes(2, "little")
        found = calibrate(robot, helper, Wishes(margin=0.05))
        assert "shoulder_lift (servo 2), wrist_roll (servo 5) begins again" in helper.asked[-1]
        ends = DIRECTION * (np.stack([LOW, HIGH]) - ZERO)
        np.testing.assert_allclose(found.low, ends.min(axis=0) + 0.05, atol=4e-3)
        np.testing.assert_allclose(found.high, ends.max(axis=0) - 0.05, atol=4e-3)
        driver = make_driver(found.applied(robot))
        driver.connect()
        for angle in (found.low, found.high, np.zeros(6)):
            helper.put(ZERO + offset + DIRECTION * angle)
            np.testing.assert_allclose(driver.read().position, angle, atol=3 * TICK)
            driver.write(Motion.at_rest(angle))
            driver.read()
            target = ZERO + offset + DIRECTION * angle
            np.testing.assert_allclose(bus.servos.plant.target, target, atol=3 * TICK)
        driver.disconnect(torque_off=True)
        assert bus.servos.tables[2][9:13] == (0).to_bytes(2, "little") + (4095).to_bytes(
            2, "little"
        )
        assert [count > 0 for count in bus.servos.eeprom_writes].count(True) >= 2


def test_a_seam_that_cannot_be_moved_is_told() -> None:
    offset = np.array([0, 3.0, 0, 0, 0, 0])
    with limp_bus("dynamixel") as bus:
        helper = Helper(bus, offset=offset)
        with pytest.raises(ValueError, match=r"lift \(servo 2\) begins again.*turn the horn"):
            calibrate(template("dynamixel", bus.port), helper, Wishes())


def test_who_answers_blindly_comes_to_an_end(monkeypatch) -> None:
    """As ``yes '' | hotloop calibrate ...`` would."""
    monkeypatch.setattr(operator, "MOST_MISTAKES", 8)
    with limp_bus("feetech") as bus:
        helper = Helper(bus, lambda question: "")
        with pytest.raises(ValueError, match=r"expected at least 5.* given up after 8 mistakes"):
            calibrate(template("feetech", bus.port), helper, Wishes())
        assert len(helper.said) == 7


def test_only_servos_are_calibrated_by_hand() -> None:
    robot = compose("control", ["robot=mujoco-arm"], ControlConfig).robot
    with pytest.raises(ValueError, match="driver 'mujoco'; what is calibrated by hand are servos"):
        calibrate(robot, Helper, Wishes())
    with pytest.raises(ValueError, match=r"margin must be from 0 to 0\.5 rad, got nan"):
        Wishes(margin=float("nan"))
