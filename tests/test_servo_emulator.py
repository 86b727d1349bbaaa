"""The emulated servos' protocols, the tracker, and wrong settings of both."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.controller_config import ControllerConfig
from hotloop.real_robot.core.limits import Limits
from hotloop.real_robot.drivers import make_driver
from hotloop.real_robot.emulator import dynamixel, feetech
from hotloop.real_robot.emulator.bus import PROTOCOLS, ServoBus
from hotloop.real_robot.emulator.plant import Plant

IDS = range(1, 7)
BOTH = pytest.mark.parametrize("family", ["dynamixel", "feetech"])
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


def order(family: str, number: int, address: int, value: int) -> bytes:
    """A packet that writes one byte."""
    if family == "dynamixel":
        return dynamixel.make_packet(number, 3, address.to_bytes(2, "little") + bytes([value]))
    return feetech.make_packet(number, 3, bytes([address, value]))


@BOTH
def test_new_servos_share_an_id_until_each_was_given_its_own(family) -> None:
    servos = PROTOCOLS[family].from_the_box(Plant("arm6"))
    module = {"dynamixel": dynamixel, "feetech": feetech}[family]
    assert servos.tables == {}
    for joint in range(6):
        servos.plug_in([joint])
        assert servos.joints == {1: joint}
        if family == "feetech":
            servos.handle(order(family, 1, feetech.LOCK, 0), 0.0)
        ((answered, _),) = servos.handle(order(family, 1, module.ID, 10 + joint), 0.0)
        assert answered == 10 + joint
    servos.plug_in(range(6))
    assert servos.joints == {10 + joint: joint for joint in range(6)}
    assert servos.eeprom_writes == [1] * 6


@BOTH
def test_servos_with_the_same_id_spoil_each_others_answers(family) -> None:
    servos = PROTOCOLS[family].from_the_box(Plant("arm6"))
    servos.plug_in([2, 4])
    assert servos.handle(order(family, 1, 40 if family == "feetech" else 64, 1), 0.0) == []
    assert not servos.plant.torque.any()


def test_what_a_locked_servo_is_told_is_gone_with_its_power() -> None:
    servos = feetech.FeetechServos(Plant("arm6"), IDS)
    servos.handle(order("feetech", 3, feetech.RETURN_DELAY, 0), 0.0)
    assert servos.tables[3][feetech.RETURN_DELAY] == 0 and servos.eeprom_writes == [0] * 6
    servos.reboot(3)
    assert servos.tables[3][feetech.RETURN_DELAY] == 250
    servos.handle(order("feetech", 3, feetech.LOCK, 0), 0.0)
    servos.handle(order("feetech", 3, feetech.RETURN_DELAY, 0), 0.0)
    servos.reboot(3)
    assert servos.tables[3][feetech.RETURN_DELAY] == 0 and servos.eeprom_writes[2] == 1


@BOTH
def test_a_rebooted_servo_lets_go_and_forgets(family) -> None:
    module = {"dynamixel": dynamixel, "feetech": feetech}[family]
    servos = PROTOCOLS[family](Plant("arm6"), IDS)
    for number in IDS:
        servos.handle(order(family, number, module.TORQUE, 1), 0.0)
    servos.reboot(4)
    assert servos.tables[4][module.TORQUE] == 0
    assert servos.plant.torque.tolist() == [True, True, True, False, True, True]


@pytest.mark.parametrize(
    ("address", "data", "error"),
    [
        (dynamixel.GOAL, 4096, dynamixel.LIMIT_ERROR),
        (dynamixel.GOAL, -1, dynamixel.LIMIT_ERROR),
        (dynamixel.GOAL_PWM, 886, dynamixel.LIMIT_ERROR),
        (dynamixel.POSITION, 0, dynamixel.ACCESS_ERROR),
        (dynamixel.GOAL, 4095, 0),
    ],
)
def test_a_servo_refuses_what_the_manual_says(address, data, error) -> None:
    servos = dynamixel.DynamixelServos(Plant("arm6"), IDS)
    size = 2 if address == dynamixel.GOAL_PWM else 4
    content = address.to_bytes(2, "little") + data.to_bytes(size, "little", signed=True)
    ((_, answer),) = servos.handle(dynamixel.make_packet(2, dynamixel.WRITE, content), 0.0)
    assert answer[8] == error


@BOTH
def test_a_servo_pushes_as_hard_as_it_may_against_what_is_in_the_way(family) -> None:
    module = {"dynamixel": dynamixel, "feetech": feetech}[family]
    servos = PROTOCOLS[family](Plant("arm6"), IDS)
    servos.plant.obstruct(0, -0.1, 0.1)
    servos.handle(order(family, 1, module.TORQUE, 1), 0.0)
    for share in (1.0, 0.3):
        servos.limit(1, share)
        servos.aim(1, 2048 + 600)
        for now in (0.0, 0.4, 0.8, 1.2):
            servos.plant.catch_up(now + 10 * (share < 1))
        assert servos.load(1) == pytest.approx(share, abs=0.02)
        assert servos.plant.position[0] < 0.3
    servos.plant.clear()
    for now in (20.0, 20.4, 20.8, 21.2):
        servos.plant.catch_up(now)
    assert servos.plant.position[0] > 0.8


def test_new_servos_hear_only_their_own_baud_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    serial = pytest.importorskip("serial")
    servos = dynamixel.DynamixelServos.from_the_box(Plant("arm6"))
    servos.plug_in([0])
    ping = dynamixel.make_packet(1, dynamixel.PING, b"")
    with ServoBus(servos) as bus:
        for baud, answers in ((1_000_000, False), (57600, True), (250_000, False)):
            with serial.Serial(bus.port, baud, timeout=0) as client:
                client.write(ping)
                bus.poll(0.1)
                assert bool(client.read(64)) is answers, baud


@given(st.integers(-2047, 2047), st.floats(-3, 3))
def test_an_offset_moves_the_seam_of_a_feetech_servo(offset, place) -> None:
    servos = feetech.FeetechServos(Plant("arm6"), IDS)
    plain = servos.ticks(1)
    raw = abs(offset) | (feetech.OFFSET_SIGN if offset < 0 else 0)
    servos.tables[1][feetech.OFFSET : feetech.OFFSET + 2] = raw.to_bytes(2, "little")
    assert servos.ticks(1) == (plain - offset) % 4096
    goal = (round(place / 6.2832 * 4096) + 2048 - offset) % 4096
    servos.aim(1, goal)
    # The joint turns there without crossing the seam, as far as the counts lie apart.
    turned = (servos.plant.target[0] - servos.plant.position[0]) / 6.283185 * 4096
    assert turned == pytest.approx(goal - servos.ticks(1), abs=0.51)
