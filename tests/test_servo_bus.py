"""Servo buses: the makers' own SDKs against the emulator, and what the driver makes of faults."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import dynamixel_sdk
import numpy as np
import pytest
import scservo_sdk

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.controller_config import ControllerConfig
from hotloop.real_robot.core.limits import Limits, Motion
from hotloop.real_robot.drivers import BusError, make_driver
from hotloop.real_robot.emulator import dynamixel, feetech
from hotloop.real_robot.emulator.bus import PROTOCOLS, Faults, ServoBus, Wire
from hotloop.real_robot.emulator.plant import Plant

pytestmark = pytest.mark.realtime

IDS = range(1, 7)
LIMITS = Limits((-1.5,) * 6, (1.5,) * 6, (2.0,) * 6, (10.0,) * 6, (400.0,) * 6)
TICK = 2 * np.pi / 4096
BOTH = pytest.mark.parametrize("protocol", ["dynamixel", "feetech"])


@contextmanager
def serving(protocol: str, wire: Wire | None = None, **settings):
    """An emulated bus that answers from a thread."""
    going = threading.Event()
    going.set()
    with ServoBus(PROTOCOLS[protocol](Plant("arm6"), IDS), wire, **settings) as bus:
        thread = threading.Thread(target=bus.serve, args=(going.is_set,))
        thread.start()
        try:
            yield bus
        finally:
            going.clear()
            thread.join()


def driver_for(bus: ServoBus, protocol: str, **options):
    settings = {"port": bus.port, "reply_timeout": 0.2, **options}
    return make_driver(RobotConfig("arm", protocol, ControllerConfig(LIMITS, 0.01), settings))


@contextmanager
def connected(protocol: str, **options):
    with serving(protocol) as bus:
        driver = driver_for(bus, protocol, **options)
        driver.connect()
        try:
            yield bus, driver
        finally:
            bus.faults = Faults()
            driver.disconnect(torque_off=False)


@BOTH
def test_the_arm_goes_where_it_is_told(protocol) -> None:
    goal = np.array([0.3, -0.2, 0.25, -0.3, 0.4, 0.5])
    with connected(protocol) as (bus, driver):
        for _ in range(60):
            state = driver.read()
            driver.write(Motion.at_rest(goal))
            time.sleep(0.005)
        assert state.fault == ""
        # Gravity pulls a little; the encoder counts in whole ticks.
        np.testing.assert_allclose(state.position, goal, atol=0.03)
        np.testing.assert_allclose(state.position, bus.servos.plant.position, atol=TICK)
        assert abs(state.time - time.monotonic()) < 1


@BOTH
def test_connecting_moves_nothing(protocol) -> None:
    with serving(protocol) as bus:
        bus.servos.plant._place(bus.servos.plant._positions, np.full(6, 0.2))
        driver = driver_for(bus, protocol)
        driver.connect()
        np.testing.assert_allclose(bus.servos.plant.target, 0.2, atol=0.05)
        assert bus.servos.plant.torque.all()
        driver.disconnect(torque_off=True)
        assert not bus.servos.plant.torque.any()


@BOTH
def test_directions_and_zeros_turn_encoder_counts_into_joint_angles(protocol) -> None:
    options = {"zero": [2048, 2148, 2048, 2048, 2048, 2048], "direction": [-1, 1, 1, -1, 1, 1]}
    with connected(protocol, **options) as (bus, driver):
        driver.write(Motion.at_rest(np.full(6, 0.3)))
        expected = np.array([-0.3, 0.3 + 100 * TICK, 0.3, -0.3, 0.3, 0.3])
        time.sleep(0.05)
        np.testing.assert_allclose(bus.servos.plant.target, expected, atol=TICK)
        read = driver.read().position
        plain = bus.servos.plant.position
        np.testing.assert_allclose(read[0], -plain[0], atol=0.02)
        np.testing.assert_allclose(read[1], plain[1] - 100 * TICK, atol=0.02)


@BOTH
def test_a_servo_that_stays_stiff_is_told_after_all_others_are_limp(protocol) -> None:
    with serving(protocol) as bus:
        driver = driver_for(bus, protocol, reply_timeout=0.05)
        driver.connect()
        lost = bus.servos.tables.pop(4)
        with pytest.raises(BusError, match=r"not every servo confirmed that its torque is off.*4"):
            driver.disconnect(torque_off=True)
        bus.servos.tables[4] = lost
        assert bus.servos.plant.torque.tolist() == [joint == 3 for joint in range(6)]
        driver.disconnect(torque_off=True)  # closed already


@BOTH
def test_two_controllers_on_one_bus_are_refused(protocol) -> None:
    with connected(protocol) as (bus, _), pytest.raises(ConnectionError, match="in use by another"):
        driver_for(bus, protocol).connect()


@BOTH
def test_a_servo_that_does_not_answer_is_named(protocol) -> None:
    with serving(protocol) as bus:
        del bus.servos.tables[4]
        driver = driver_for(bus, protocol, reply_timeout=0.03)
        with pytest.raises(ConnectionError, match=r"servos \[4\] do not answer at 1000000 baud"):
            driver.connect()
        driver.disconnect(torque_off=False)


@pytest.mark.parametrize(
    ("protocol", "address", "value", "message"),
    [
        ("dynamixel", dynamixel.OPERATING_MODE, 1, r"servo 2 is in operating mode 1, expected 3"),
        ("dynamixel", dynamixel.HARDWARE_ERROR, 4, "servo 2 is in hardware error 0x04"),
        ("feetech", feetech.MODE, 1, r"servo 2 is in mode 1, expected 0"),
    ],
)
def test_a_servo_that_is_not_ready_is_refused(protocol, address, value, message) -> None:
    with serving(protocol) as bus:
        bus.servos.tables[2][address] = value
        driver = driver_for(bus, protocol)
        for _ in range(2):  # again the second time
            with pytest.raises(ConnectionError, match=message):
                driver.connect()
        driver.disconnect(torque_off=False)
        assert not bus.servos.plant.torque.any()


@BOTH
def test_corrupted_answers_fail_the_cycle_and_are_never_believed(protocol) -> None:
    with connected(protocol, reply_timeout=0.02) as (bus, driver):
        time.sleep(0.3)
        bus.faults.corrupt = 0.1
        failures, reads = 0, []
        for _ in range(60):
            try:
                reads.append(driver.read().position)
            except BusError:
                failures += 1
        bus.faults.corrupt = 0.0
        assert failures > 3 and len(reads) > 3
        np.testing.assert_allclose(
            reads, np.tile(driver.read().position, (len(reads), 1)), atol=0.02
        )


@BOTH
@pytest.mark.parametrize(
    "faults", [Faults(drop=1.0), Faults(unplugged=True), Faults(delay=0.1)], ids=str
)
def test_a_missing_answer_fails_the_cycle_and_the_next_one_works(protocol, faults) -> None:
    with connected(protocol, reply_timeout=0.03) as (bus, driver):
        bus.faults = faults
        began = time.monotonic()
        with pytest.raises(BusError, match="no status packet"):
            driver.read()
        assert time.monotonic() - began < 1
        bus.faults = Faults()
        time.sleep(0.7 if faults.delay else 0.01)
        assert driver.read().position.shape == (6,)


def test_an_answer_that_the_sdk_trips_over_is_asked_for_again(monkeypatch) -> None:
    """A late answer to another question may be shorter than what Feetech's SDK reads from it."""
    handler = type(scservo_sdk.PacketHandler(0))
    ping, calls = handler.ping, []

    def stumbling(self, port, number):
        calls.append(number)
        return [][0] if len(calls) == 1 else ping(self, port, number)

    monkeypatch.setattr(handler, "ping", stumbling)
    with connected("feetech") as (_, driver):
        assert calls[:2] == [1, 1]
        assert len(driver.read().position) == len(IDS)


@BOTH
def test_a_servo_in_error_state_is_a_fault_of_the_robot(protocol) -> None:
    with connected(protocol) as (bus, driver):
        assert driver.read().fault == ""
        bus.servos.fail(3)
        assert "servo 3 reports error" in driver.read().fault


def test_the_bus_watchdog_stops_the_servos_and_locks_them() -> None:
    with connected("dynamixel", watchdog=0.06) as (bus, driver):
        plant = bus.servos.plant
        driver.write(Motion.at_rest(np.full(6, 1.0)))
        time.sleep(0.02)
        driver.read()
        time.sleep(0.5)
        assert {table[dynamixel.BUS_WATCHDOG] for table in bus.servos.tables.values()} == {255}
        assert np.abs(plant.velocity).max() < 0.1
        stopped = plant.target.copy()
        driver.write(Motion.at_rest(np.zeros(6)))
        driver.read()
        np.testing.assert_array_equal(plant.target, stopped)
        driver.disconnect(torque_off=False)
        again = driver_for(bus, "dynamixel")
        again.connect()
        again.write(Motion.at_rest(np.zeros(6)))
        again.read()
        np.testing.assert_allclose(plant.target, 0, atol=TICK)
        again.disconnect(torque_off=False)


def test_the_official_sdk_finds_reads_and_writes_the_servos(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The SDK polls without pause, and shares the interpreter with the emulator here: 34 ms are not
    # always enough for a reply.
    monkeypatch.setattr(dynamixel_sdk.port_handler, "LATENCY_TIMER", 500)
    with serving("dynamixel") as bus:
        port, packets = dynamixel_sdk.PortHandler(bus.port), dynamixel_sdk.PacketHandler(2.0)
        assert port.openPort()
        assert packets.ping(port, 3) == (dynamixel.MODEL, 0, 0)
        # A protected register while the torque is on: access error.
        assert packets.write1ByteTxRx(port, 3, dynamixel.TORQUE, 1) == (0, 0)
        assert packets.write1ByteTxRx(port, 3, dynamixel.ID, 9) == (0, dynamixel.ACCESS_ERROR)
        for fast in (False, True):
            group = dynamixel_sdk.GroupSyncRead(port, packets, dynamixel.POSITION, 4)
            for number in IDS:
                assert group.addParam(number)
            assert (group.fastSyncRead if fast else group.txRxPacket)() == 0
            for number in IDS:
                ticks = group.getData(number, dynamixel.POSITION, 4)
                assert abs(ticks - bus.servos.ticks(number)) <= 2
        port.closePort()


def test_the_wire_takes_its_time() -> None:
    """At 1 Mbit/s one sync read of six servos is 134 bytes: 1.34 ms, however fast the machine."""
    durations = []
    for baud in (1_000_000, 115_200):
        with serving("dynamixel", Wire(baud)) as bus:
            driver = driver_for(bus, "dynamixel")
            driver.connect()
            began = time.perf_counter()
            driver.read()
            durations.append(time.perf_counter() - began)
            driver.disconnect(torque_off=False)
    assert durations[0] >= 134 * 10 / 1_000_000
    assert durations[1] >= 134 * 10 / 115_200
