"""`hotloop doctor`: it says what is wrong with a robot, and changes and moves nothing."""

from __future__ import annotations

import socket
from contextlib import contextmanager

import numpy as np
import pytest
from moved_by_hand import limp_bus

from hotloop.real_robot.config import ControlConfig, RobotConfig
from hotloop.real_robot.doctor import check_robot
from hotloop.real_robot.drivers.servo_registers import REGISTERS
from hotloop.real_robot.emulator import dynamixel, feetech
from hotloop.train.config.compose import compose

BOTH = pytest.mark.parametrize("protocol", ["dynamixel", "feetech"])
READING = {
    "dynamixel": {dynamixel.PING, dynamixel.READ, dynamixel.SYNC_READ, dynamixel.FAST_SYNC_READ},
    "feetech": {feetech.PING, feetech.READ, feetech.SYNC_READ},
}
INSTRUCTION = {"dynamixel": 7, "feetech": 4}
MEASURED = {
    "dynamixel": [*range(124, 136), 144, 145, 146],
    "feetech": [*range(56, 64), 65, 66, 69, 70],
}


@pytest.fixture(autouse=True)
def _few_reads(monkeypatch) -> None:
    """Each takes milliseconds on the emulated wire; how many there are decides nothing here."""
    monkeypatch.setattr("hotloop.real_robot.doctor.robot.NUM_READS", 20)


def robot(protocol: str, port: str, *overrides: str) -> RobotConfig:
    settings = [
        f"robot={protocol}",
        f"robot.options.port={port}",
        "robot.options.reply_timeout=0.5",
    ]
    known = ["robot.options.zero=[2048,2048,2048,2048,2048,2048]",
             "robot.options.direction=[1,1,1,1,1,1]"]  # fmt: skip
    return compose("control", [*settings, *known, *overrides], ControlConfig).robot


def texts(config: RobotConfig, good: bool) -> str:
    """What was found, but for how long the bus took: this machine may be busy."""
    found = [one for one in check_robot(config) if not one.text.startswith("one read: p50")]
    return "\n".join(one.text for one in found if one.good is good)


@contextmanager
def watched(protocol: str):
    """A bus that keeps every instruction that reaches it."""
    with limp_bus(protocol) as bus:
        seen: list[int] = []
        handle = bus.servos.handle

        def listening(packet: bytes, now: float):
            seen.append(packet[INSTRUCTION[protocol]])
            return handle(packet, now)

        bus.servos.handle = listening
        yield bus, seen


def tables(bus, protocol: str) -> dict[int, bytes]:
    """All registers but for what the servos measure themselves."""
    kept = {}
    for number, table in bus.servos.tables.items():
        copy = bytearray(table)
        for address in MEASURED[protocol]:
            if address < len(copy):
                copy[address] = 0
        kept[number] = bytes(copy)
    return kept


@BOTH
@pytest.mark.parametrize("torque", [0, 1])
@pytest.mark.parametrize("fault", ["none", "mode", "error", "missing", "outside"])
def test_the_doctor_only_reads(protocol, torque, fault) -> None:
    """Whatever the servos are like: not one byte is written, no torque switched, nothing moved."""
    with watched(protocol) as (bus, seen):
        table, servos = REGISTERS[protocol], bus.servos
        for number in servos.tables:
            servos.tables[number][table.torque.address] = torque
            servos.power(number, bool(torque))
            # A watchdog that tripped stays so.
            if protocol == "dynamixel":
                servos.tables[number][dynamixel.BUS_WATCHDOG] = dynamixel.TRIGGERED
        if fault == "mode":
            servos.tables[2][table.mode.address] = 1
        elif fault == "error":
            servos.tables[2][table.status.address] = 0x20
        elif fault == "missing":
            del servos.tables[4]
        elif fault == "outside":
            servos.plant.pose(np.full(6, 1.45), np.zeros(0))
        before, goal = tables(bus, protocol), servos.plant.target.copy()
        stiff, place = servos.plant.torque.copy(), servos.plant.position
        patience = 0.05 if fault == "missing" else 0.5
        config = robot(protocol, bus.port, f"robot.options.reply_timeout={patience}")
        bad = texts(config, good=False)
        assert tables(bus, protocol) == before and servos.eeprom_writes == [0] * 6
        assert set(seen) <= READING[protocol] and len(seen) > 20
        np.testing.assert_array_equal(servos.plant.target, goal)
        np.testing.assert_array_equal(servos.plant.torque, stiff)
        np.testing.assert_array_equal(servos.plant.position, place)
    assert bool(bad) == (fault != "none"), bad


@BOTH
def test_a_sound_arm_is_told_about(protocol) -> None:
    with limp_bus(protocol) as bus:
        good = texts(robot(protocol, bus.port), good=True)
    assert "servo 1 (shoulder_pan): model" in good and "servo 6 (gripper): model" in good
    assert "torque off" in good and "0 of 20 reads failed" in good
    assert "joints at [0.000, 0.000, 0.000, 0.000, 0.000, 0.000], within the limits" in good
    assert "a run will set the return delay of servos [1, 2, 3, 4, 5, 6] to 0" in good


@BOTH
def test_what_is_wrong_names_servo_and_joint(protocol) -> None:
    table = REGISTERS[protocol]
    for register, value, message in (
        (table.mode, 1, f"is in operating mode 1, expected {table.position_mode}"),
        (table.status, 0x20, "reports overload; remove the cause"),
        (table.status, 0x04, "reports overheating"),
    ):
        with limp_bus(protocol) as bus:
            bus.servos.tables[2][register.address] = value
            bad = texts(robot(protocol, bus.port), good=False)
        assert f"servo 2 (shoulder_lift) {message}" in bad


@BOTH
def test_servos_that_refuse_goals_within_the_limits_are_named(protocol) -> None:
    """Feetech servos cut such goals off, Dynamixel servos refuse them: the joint would stay."""
    table = REGISTERS[protocol]
    with limp_bus(protocol) as bus:
        for register, value in ((table.low, 1000), (table.high, 2500)):
            raw = value.to_bytes(register.size, "little")
            bus.servos.tables[3][register.address : register.address + register.size] = raw
        bad = texts(robot(protocol, bus.port), good=False)
    assert "servo 3 (elbow_flex) accepts only -1.608 to 0.693 rad" in bad
    assert "control.limits go from -1.2 to 1.2" in bad


@BOTH
def test_servos_that_are_missing_and_strangers_are_named(protocol) -> None:
    with limp_bus(protocol, ids=(1, 2, 3, 4, 5, 9)) as bus:
        config = robot(protocol, bus.port, "robot.options.reply_timeout=0.1")
        bad = texts(config, good=False)
    assert "servo 6 (gripper) does not answer at 1000000 baud; servos [9] answer, which" in bad


@BOTH
def test_a_template_is_told_to_be_calibrated(protocol) -> None:
    settings = [f"robot={protocol}", "robot.options.port=/dev/nothing"]
    config = compose("control", settings, ControlConfig).robot
    bad = texts(config, good=False)
    assert "measure them with `hotloop calibrate`" in bad and "/dev/nothing" in bad


def test_stop_inputs_are_listened_to() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, limp_bus("feetech") as bus:
        sender.bind(("127.0.0.1", 0))
        taken = sender.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            free = other.getsockname()[1]
        button = "robot.stop_inputs={%s: {driver: udp, options: {port: %d}}}"
        blocked = texts(robot("feetech", bus.port, button % ("pendant", taken)), good=False)
        heard = texts(robot("feetech", bus.port, button % ("pendant", free)), good=True)
    assert f"stop input 'pendant': nothing can be received at 127.0.0.1:{taken}" in blocked
    assert "stop input 'pendant': " in heard and "(it can be read)" in heard


def test_a_driver_that_cannot_be_looked_at_is_left_alone(monkeypatch) -> None:
    config = compose("control", ["robot=mujoco-arm"], ControlConfig).robot
    monkeypatch.setattr(
        "hotloop.real_robot.drivers.mujoco_plant.MujocoDriver.connect",
        lambda driver: pytest.fail("connected"),
    )
    assert "driver mujoco cannot look without taking hold" in texts(config, good=True)
