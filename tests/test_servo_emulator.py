"""The emulated servos' protocols, the tracker, and wrong settings of both."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.controller import ControllerConfig
from hotloop.real_robot.core.limits import Limits
from hotloop.real_robot.drivers import make_driver
from hotloop.real_robot.emulator import dynamixel, feetech
from hotloop.real_robot.emulator.plant import Plant

IDS = range(1, 7)
LIMITS = Limits((-1.5,) * 6, (1.5,) * 6, (2.0,) * 6, (10.0,) * 6, (400.0,) * 6)


@given(st.binary(max_size=40))
def test_packets_survive_noise_stuffing_and_partial_arrival(payload) -> None:
    assert dynamixel.fast_crc16(payload) == dynamixel.crc16(payload)
    packet = dynamixel.make_packet(7, dynamixel.WRITE, payload)
    assert b"\xff\xff\xfd" not in packet[7:].replace(b"\xff\xff\xfd\xfd", b"")
    assert dynamixel.unstuff(packet[7:-2])[1:] == payload
    buffer = bytearray(b"\x00noise" + packet + packet[:5])
    assert dynamixel.DynamixelServos.split(buffer) == [packet]
    buffer += packet[5:]
    assert dynamixel.DynamixelServos.split(buffer) == [packet]
    other = feetech.make_packet(7, feetech.WRITE, payload)
    buffer = bytearray(b"\x00noise" + other + other[:3])
    assert feetech.FeetechServos.split(buffer) == [other]


@given(st.integers(-32767, 32767))
def test_feetech_numbers_have_sign_and_magnitude(value) -> None:
    assert feetech.unsigned(feetech.signed(value)) == value


def test_a_damaged_packet_is_not_obeyed() -> None:
    for servos, packet in (
        (
            dynamixel.DynamixelServos(Plant("arm6"), IDS),
            dynamixel.make_packet(1, 3, b"\x40\x00\x01"),
        ),
        (feetech.FeetechServos(Plant("arm6"), IDS), feetech.make_packet(1, 3, b"\x28\x01")),
    ):
        assert servos.handle(packet[:-1] + bytes([packet[-1] ^ 1]), 0.0) == []
        assert not servos.plant.torque.any()
        assert servos.handle(packet, 0.0) != []
        assert servos.plant.torque[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs the option port"),
        ({"port": "x", "speed": 1}, "unknown driver option 'speed'"),
        ({"port": "x", "baud": "fast"}, "driver option baud must be"),
        ({"port": "x", "baud": 12345}, "Dynamixel X servos have 9600.* got 12345"),
        ({"port": "x", "ids": [1, 2]}, "ids needs 6 values, got 2"),
        ({"port": "x", "direction": [2] * 6}, "direction must be 1 or -1"),
    ],
)
def test_wrong_options_are_refused(options, message) -> None:
    robot = RobotConfig("arm", "dynamixel", ControllerConfig(LIMITS, 0.01), options)
    with pytest.raises(ValueError, match=message):
        make_driver(robot)


def test_servos_need_an_id_per_joint() -> None:
    with pytest.raises(ValueError, match="has 6 joints and needs as many different IDs"):
        dynamixel.DynamixelServos(Plant("arm6"), [1, 1, 2, 3, 4, 5])
    with pytest.raises(FileNotFoundError, match="no MuJoCo model 'arm7'"):
        Plant("arm7")
