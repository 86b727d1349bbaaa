"""Answers that come too late, and an adapter that is pulled out: each costs its cycle alone."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from robot_runs import ARM
from test_servo_bus import BOTH, connected, driver_for, serving

from hotloop.real_robot.core.limits import Motion
from hotloop.real_robot.drivers import BusError
from hotloop.real_robot.drivers.driver import PortError
from hotloop.real_robot.drivers.servo_registers import REGISTERS
from hotloop.real_robot.runtime.release import release

pytestmark = pytest.mark.realtime

POSITION_BYTES = {"dynamixel": 8, "feetech": 4}


@BOTH
def test_a_late_answer_to_another_question_is_not_taken_for_this_one(protocol) -> None:
    """The answers to a question come again with the next ones, before those."""
    with connected(protocol) as (bus, driver):
        handle, before = bus.servos.handle, []

        def belated(packet: bytes, now: float):
            answers = handle(packet, now)
            late, before[:] = list(before), answers
            return [*late, *answers]

        place = bus.servos.plant.position
        bus.servos.handle = belated
        for _ in range(60):
            state = driver.read()
            assert state.fault == ""
            np.testing.assert_allclose(state.position, place, atol=0.02)


@pytest.mark.parametrize("protocol", list(POSITION_BYTES))
def test_no_two_questions_have_answers_of_the_same_length(protocol) -> None:
    table = REGISTERS[protocol]
    lengths = []
    for names in set(table.rounds):
        read = [getattr(table, name) for name in names]
        lengths.append(max(one.address + one.size for one in read) - min(read).address)
    lengths.append(POSITION_BYTES[protocol])
    assert len(set(lengths)) == len(lengths)


@BOTH
def test_an_adapter_that_is_pulled_out_is_called_lost_in_every_cycle(protocol) -> None:
    with serving(protocol) as bus:
        driver = driver_for(bus, protocol, reply_timeout=0.5)
        driver.connect()
        place = driver.read().position
        # The bus goes on serving another terminal.
        master, slave = os.openpty()
        with bus.servos.lock:
            os.dup2(master, bus._master)
            os.dup2(slave, bus._slave)
        os.close(master)
        os.close(slave)
        for _ in range(3):
            with pytest.raises(BusError, match="was lost"):
                driver.read()
            with pytest.raises(BusError, match="was lost"):
                driver.write(Motion.at_rest(place))
        with pytest.raises(BusError, match="not every servo confirmed that its torque is off"):
            driver.disconnect(torque_off=True)


def test_a_port_that_cannot_be_opened_is_not_called_released(tmp_path) -> None:
    said: list[str] = []
    gone = replace(ARM, driver="feetech", options={"port": str(tmp_path / "gone")})
    with pytest.raises(PortError, match="gone cannot be opened"):
        release(gone, said.append, lambda seconds: said.append("waited"))
    assert not said


def test_a_lost_answer_while_connecting_is_asked_for_again(monkeypatch) -> None:
    with serving("feetech") as bus:
        driver = driver_for(bus, "feetech")
        read, failed = driver._bus.read, []

        def failing_once():
            if failed:
                return read()
            failed.append(True)
            raise BusError("no answer")

        monkeypatch.setattr(driver._bus, "read", failing_once)
        driver.connect()
        assert failed and driver.read().fault == ""
        driver.disconnect(torque_off=False)
