"""A tracker's numbers over UDP: a robot moves by new ones only."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import pytest

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.controller_config import ControllerConfig
from hotloop.real_robot.core.limits import Limits
from hotloop.real_robot.drivers import make_driver
from hotloop.real_robot.drivers.tracker import MOST_WAITING, Tracker
from hotloop.real_robot.emulator.bus import PROTOCOLS, ServoBus
from hotloop.real_robot.emulator.plant import Plant

pytestmark = pytest.mark.realtime


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Scene:
    """A tracker of three numbers, who sends to it, and a clock that only the test moves."""

    def __init__(self, sender: socket.socket) -> None:
        self.now, self.port, self._sender = 100.0, free_port(), sender
        self.tracker = Tracker(self.port, 3, 0.2, lambda: self.now)
        self.tracker.open()

    def send(self, *values: float) -> None:
        self._sender.sendto(np.array(values, "<f8").tobytes(), ("127.0.0.1", self.port))

    def newest(self) -> list[float]:
        return self.tracker.newest().tolist()


@pytest.fixture
def scene() -> Generator[Scene, None, None]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        made = Scene(sender)
        yield made
        made.tracker.close()


def test_the_newest_numbers_count_and_others_are_ignored(scene) -> None:
    assert np.isnan(scene.newest()).all(), "nothing is known yet, also not that it is at 0"
    scene.send(1, 2, 3)
    scene.send(4, 5, 6)
    scene.send(7)
    assert scene.newest() == scene.newest() == [4, 5, 6]
    assert scene.tracker.fault() == ""


def test_numbers_of_no_tracker_are_no_fault() -> None:
    tracker = Tracker(0, 0)
    tracker.open()
    tracker.wait()
    assert tracker.newest().shape == (0,) and tracker.fault() == ""


def test_a_tracker_that_falls_silent_is_a_fault_until_it_sends_again(scene) -> None:
    scene.send(1, 2, 3)
    scene.newest()
    scene.now += 0.19
    assert scene.tracker.fault() == ""
    scene.now += 0.02
    assert f"nothing new for 0.21 s to UDP port {scene.port}" in scene.tracker.fault()
    scene.send(1, 2, 3)
    scene.newest()
    assert scene.tracker.fault() == "", "an object at rest is no fault"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((1.0, 2.0), "it sends 16 bytes, not 3 numbers of 8 bytes"),
        ((1.0, np.nan, 3.0), "it sends NaN or infinity"),
        ((1.0, 2.0, np.inf), "it sends NaN or infinity"),
        ((1.0, 2.0, 3.0, 41.0), "it goes on sending its picture 41"),
    ],
)
def test_a_tracker_that_sends_nothing_to_move_by_is_a_fault(scene, values, reason) -> None:
    scene.send(1, 2, 3, 41)
    assert scene.newest() == [1, 2, 3]
    for _ in range(10):
        scene.now += 0.05
        scene.send(*values)
        assert scene.newest() == [1, 2, 3]
    assert reason in scene.tracker.fault()
    scene.send(4, 5, 6, 42)
    assert scene.newest() == [4, 5, 6] and scene.tracker.fault() == ""


def test_however_fast_somebody_sends_reading_ends(scene) -> None:
    class Flood:
        """A socket on which there is always one more."""

        num_taken = 0

        def recv(self, size: int) -> bytes:
            self.num_taken += 1
            return np.full(3, float(self.num_taken)).tobytes()

        def close(self) -> None: ...

    scene.tracker.close()
    scene.tracker._socket = flood = Flood()
    assert scene.newest() == [MOST_WAITING] * 3 and flood.num_taken == MOST_WAITING


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5000, 0), "tracker and tracker_size belong together"),
        ((0, 3), "tracker and tracker_size belong together"),
        ((70_000, 3), "tracker is a UDP port"),
        ((5000, 10_000), "tracker_size at most 8188 numbers"),
        ((5000, 3, 0.0), "tracker_timeout must be above 0"),
        ((5000, 3, 60.0), "tracker_timeout must be above 0 and at most 1.0 s"),
        ((5000, 3, np.nan), "tracker_timeout must be above 0"),
    ],
)
def test_wrong_settings_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        Tracker(*arguments)


def test_a_port_that_another_program_has_is_named(scene) -> None:
    with pytest.raises(OSError, match=f"UDP port {scene.port} cannot be opened: .*in use"):
        Tracker(scene.port, 3).open()


@contextmanager
def served(plant: Plant) -> Generator[ServoBus, None, None]:
    """An emulated bus that answers from a thread."""
    ended = threading.Event()
    with ServoBus(PROTOCOLS["dynamixel"](plant, (1, 2))) as bus:

        def serve() -> None:
            while not ended.is_set():
                bus.poll(0.005)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield bus
        finally:
            ended.set()
            thread.join()


def table(port: str, tracker: int, timeout: float) -> RobotConfig:
    limits = Limits((-1.2, 0.7), (2.0, 2.9), (4.0, 6.0), (40.0, 60.0), (1500.0, 2000.0))
    options = {
        "port": port, "reply_timeout": 0.5, "watchdog": 2.0,
        "tracker": tracker, "tracker_size": 3, "tracker_timeout": timeout,
    }  # fmt: skip
    return RobotConfig("table", "dynamixel", ControllerConfig(limits, 0.02), options)


def test_without_a_tracker_the_arm_is_not_touched_and_with_one_it_tells_its_faults() -> None:
    """A block that nobody sees was taken to lie at 0, 0, 0, and the arm pushed it there."""
    plant, port = Plant("table", np.array([0.13, 2.17])), free_port()
    with served(plant) as bus:
        alone = make_driver(table(bus.port, port, 0.1))
        with pytest.raises(ConnectionError, match=f"sent nothing to UDP port {port}: start what"):
            alone.connect()
        alone.disconnect(False)
        assert not plant.torque.any()
        driver = make_driver(table(bus.port, port, 1.0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            ended = threading.Event()

            def send() -> None:
                while not ended.wait(0.01):
                    sender.sendto(np.array([0.2, 0.3, 0.5]).tobytes(), ("127.0.0.1", port))

            thread = threading.Thread(target=send)
            thread.start()
            try:
                driver.connect()
                seen = driver.read()
            finally:
                ended.set()
                thread.join()
        assert plant.torque.all() and seen.sensors.tolist() == [0.2, 0.3, 0.5]
        assert seen.fault == ""
        time.sleep(1.1)
        assert "the tracker sent nothing new for" in driver.read().fault
        driver.disconnect(True)
