"""Servos are watched while they move a robot: what goes wrong is known soon, and by its name."""

from __future__ import annotations

import re

import numpy as np
import pytest
from test_servo_bus import connected, serving

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.controller_config import ControllerConfig
from hotloop.real_robot.core.limits import Limits, Motion
from hotloop.real_robot.drivers import BusError
from hotloop.real_robot.drivers.servo_bus import ServoBusDriver
from hotloop.real_robot.drivers.servo_options import servo_options, watch_turns
from hotloop.real_robot.drivers.servo_registers import REGISTERS
from hotloop.real_robot.emulator import dynamixel, feetech
from hotloop.real_robot.emulator.bus import Faults

BOTH = pytest.mark.parametrize("protocol", ["dynamixel", "feetech"])
MODULES = {"dynamixel": dynamixel, "feetech": feetech}
JOINTS = ("pan", "lift", "elbow", "flex", "roll", "gripper")
LIMITS = Limits((-1.5,) * 6, (1.5,) * 6, (2.0,) * 6, (10.0,) * 6, (400.0,) * 6)
REACTION = 0.2  # [s]


def robot(protocol: str, dt: float, **options) -> RobotConfig:
    control = ControllerConfig(LIMITS, dt)
    return RobotConfig("arm", protocol, control, {"port": "none", **options}, joints=JOINTS)


def driver_for(bus, protocol: str, dt: float = 0.01, **options) -> ServoBusDriver:
    settings = {"port": bus.port, "reply_timeout": 0.5, **options}
    if protocol == "dynamixel":
        # Threads share an interpreter here: the servos shall not think that nobody is there.
        settings = {"watchdog": 2.5, **settings}
    return ServoBusDriver(robot(protocol, dt, **settings))


def reads_until_fault(driver, most: int) -> tuple[int, str]:
    """How many cycles pass until the driver says what is wrong, and what it says."""
    for cycle in range(1, most + 1):
        state = driver.read()
        driver.write(Motion.at_rest(state.position))
        if state.fault:
            return cycle, state.fault
    return most + 1, ""


def reboot(servos) -> None:
    servos.reboot(3)


def relax(servos) -> None:
    servos.relax(3)


def overload(servos) -> None:
    servos.fail(3)


def trip(servos) -> None:
    servos.trip(3)


def heat(servos) -> None:
    servos.tables[3][REGISTERS[protocol_of(servos)].temperature.address] = 71


def protocol_of(servos) -> str:
    return "dynamixel" if isinstance(servos, dynamixel.DynamixelServos) else "feetech"


@pytest.mark.parametrize("dt", [0.02, 0.01, 0.004, 0.002])
@pytest.mark.parametrize(
    ("protocol", "event", "message"),
    [
        (
            "dynamixel",
            reboot,
            r"servo 3 (has its torque off|lost its watchdog).*: joint 2 \(elbow\)",
        ),
        ("dynamixel", relax, r"servo 3 has its torque off.*: joint 2 \(elbow\)"),
        ("dynamixel", trip, r"servo 3 was stopped by its watchdog: joint 2 \(elbow\)"),
        ("dynamixel", overload, r"servo 3 reports error 0x80 \(overload\): joint 2 \(elbow\)"),
        ("dynamixel", heat, r"servo 3 has 71 deg C and lets go at 72: joint 2"),
        ("feetech", reboot, r"servo 3 has its torque off.*: joint 2 \(elbow\)"),
        ("feetech", relax, r"servo 3 has its torque off.*: joint 2 \(elbow\)"),
        ("feetech", overload, r"servo 3 reports error 0x20 \(overload\): joint 2 \(elbow\)"),
        ("feetech", heat, r"servo 3 has 71 deg C and lets go at 70: joint 2"),
    ],
)
def test_a_servo_that_went_wrong_is_known_within_two_tenths_of_a_second(
    protocol, event, message, dt
) -> None:
    with serving(protocol) as bus:
        driver = driver_for(bus, protocol, dt)
        driver.connect()
        assert reads_until_fault(driver, round(REACTION / dt)) == (round(REACTION / dt) + 1, "")
        with bus.servos.lock:
            event(bus.servos)
        cycles, fault = reads_until_fault(driver, round(REACTION / dt))
        driver.disconnect(torque_off=True)
    assert cycles * dt < REACTION
    assert re.search(message, fault), fault


def test_what_was_seen_before_arming_is_no_health_of_servos_at_work() -> None:
    with serving("dynamixel") as bus:
        driver = driver_for(bus, "dynamixel")
        driver.inspect()
        # Limp on purpose: nothing is wrong with that before they are engaged.
        assert reads_until_fault(driver, 20) == (21, "")
        driver.disconnect(torque_off=False)


@BOTH
def test_looking_at_a_robot_writes_nothing(protocol) -> None:
    with serving(protocol) as bus:
        before = {number: bytes(table) for number, table in bus.servos.tables.items()}
        driver = driver_for(bus, protocol, torque_limit=[0.5] * 6)
        driver.inspect()
        driver.read()
        driver.disconnect(torque_off=False)
        moving = {"dynamixel": range(126, 136), "feetech": range(56, 62)}[protocol]
        for number, table in bus.servos.tables.items():
            changed = [k for k in range(len(table)) if table[k] != before[number][k]]
            assert set(changed) <= set(moving)
        assert bus.servos.eeprom_writes == [0] * 6 and not bus.servos.plant.torque.any()


@BOTH
def test_a_look_and_then_going_on_and_letting_go(protocol) -> None:
    with serving(protocol) as bus:
        bus.servos.plant.torque[:] = True
        for table in bus.servos.tables.values():
            table[MODULES[protocol].TORQUE] = 1
        driver = driver_for(bus, protocol)
        driver.inspect()
        driver.disconnect(torque_off=True)
        assert not bus.servos.plant.torque.any()
        driver.inspect()
        driver.connect()
        assert bus.servos.plant.torque.all()
        driver.disconnect(torque_off=False)
        assert bus.servos.plant.torque.all()


@BOTH
def test_each_joint_pushes_with_its_own_share_and_no_more_than_its_servo_is_set_to(
    protocol,
) -> None:
    table = REGISTERS[protocol]
    with serving(protocol) as bus:
        most = table.torque_most.address
        half = (table.full_torque // 2).to_bytes(2, "little")
        bus.servos.tables[2][most : most + 2] = half
        driver = driver_for(bus, protocol, torque_limit=[1, 1, 0.3, 0.3, 0.3, 0.2])
        driver.connect()
        expected = [1.0, 0.5, 0.3, 0.3, 0.3, 0.2]
        np.testing.assert_allclose(bus.servos.plant.strength, expected, atol=2e-3)
        assert bus.servos.eeprom_writes[0] <= 1  # the return delay of a Dynamixel servo
        driver.disconnect(torque_off=False)


@BOTH
def test_a_blocked_joint_is_known_by_its_load(protocol) -> None:
    options = {"torque_limit": [0.4] + [1.0] * 5, "load_time": 0.1, "reply_timeout": 0.5}
    if protocol == "dynamixel":
        options["watchdog"] = 2.5
    with connected(protocol, **options) as (bus, driver):
        bus.servos.plant.obstruct(0, -0.1, 0.1)
        fault = ""
        for _ in range(400):
            driver.write(Motion.at_rest(np.array([1.0, 0, 0, 0, 0, 0])))
            if fault := driver.read().fault:
                break
        assert "servo 1 pushes with" in fault and "blocked: joint 0" in fault
        assert bus.servos.plant.position[0] < 0.3


@BOTH
@pytest.mark.parametrize(("dt", "baud"), [(0.02, 1e6), (0.01, 1e6), (0.002, 1e6), (0.02, 115200)])
def test_the_watch_fits_on_the_wire_or_takes_the_place_of_a_measurement(protocol, dt, baud) -> None:
    config = robot(protocol, dt, baud=int(baud))
    options = servo_options(config)
    turns = watch_turns(config, options)
    assert turns.every * dt <= max(0.02, dt if turns.beside else 2 * dt)
    assert turns.beside == (dt >= 0.01 and (baud > 2e5 or protocol == "feetech"))


def test_a_bus_that_is_dead_fails_in_every_cycle_also_where_servos_are_watched() -> None:
    with serving("dynamixel") as bus:
        driver = driver_for(bus, "dynamixel", 0.002, reply_timeout=0.02)
        driver.connect()
        driver.read()
        bus.faults = Faults(unplugged=True)
        for _ in range(12):
            with pytest.raises(BusError):
                driver.read()
        bus.faults = Faults()
        driver.disconnect(torque_off=False)


@BOTH
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"torque_limit": [0.5]}, "torque_limit needs 6 values, got 1"),
        ({"torque_limit": [0.5] * 5 + [0]}, "torque_limit is a share .* got 0 for joint 5"),
        ({"load_limit": [1.2] * 6}, "load_limit is a share .* got 1.2 for joint 0"),
        ({"load_time": 0}, "load_time must be above 0 and at most 2"),
        ({"load_time": 60}, "load_time must be above 0 and at most 2"),
    ],
)
def test_limits_that_are_none_are_refused(protocol, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        servo_options(robot(protocol, 0.01, **options))
