"""What every driver and every camera has to do, as tests to inherit.

For a driver of your own, in a file that pytest collects::

    from hotloop.real_robot.config import RobotConfig
    from hotloop.real_robot.conformance import DriverConformance

    class TestMyDriver(DriverConformance):
        def robot(self) -> RobotConfig:
            return RobotConfig("mine", "my_package:MyDriver", control, {"port": "/dev/ttyUSB0"})

The joints move by at most `step` from where they stand; a robot that is switched on has to have
that much room. A camera is proven in the same way with `CameraConformance`.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from .cameras import Camera, Picture, make_camera
from .config import CameraConfig, RobotConfig
from .core.events import RobotState
from .core.limits import Motion
from .drivers import BusError, Driver, make_driver
from .drivers.driver import Inspectable

PERIOD = 0.02  # [s] between two cycles of a test


class DriverConformance:
    """Every driver passes these tests; override `robot`.

    Attributes:
        step: How far each joint is sent, from where it stands [rad or m].
        tolerance: How far from its command a joint may rest, and how far connecting may move it
            [rad or m].
        settle: How long a joint has for `step` [s]; None for a driver that moves nothing.
        unknown_option: A name that is no option of the driver.
    """

    step: float = 0.05
    tolerance: float = 0.03
    settle: float | None = 0.5
    unknown_option: str = "no_such_option"

    def robot(self) -> RobotConfig:
        """The robot; its driver is the one to be tested."""
        raise NotImplementedError("override robot() to name the driver and its options")

    @contextmanager
    def connected(self) -> Generator[Driver, None, None]:
        """A connected driver that is disconnected at the end."""
        driver = make_driver(self.robot())
        driver.connect()
        try:
            yield driver
        finally:
            driver.disconnect(torque_off=False)

    def measure(self, driver: Driver) -> RobotState:
        """A measurement; a cycle or two may fail, as the loop survives that too."""
        for _ in range(3):
            try:
                return driver.read()
            except BusError:
                time.sleep(PERIOD)
        return driver.read()

    def test_it_says_who_sets_the_pace_and_how_many_sensors_it_has_before_connecting(self) -> None:
        """The layout of the shared memory depends on it."""
        driver = make_driver(self.robot())
        assert driver.clock in ("host", "device")
        assert isinstance(driver.num_sensors, int) and driver.num_sensors >= 0

    def test_it_refuses_an_option_that_it_does_not_know(self) -> None:
        """A typing error must not become a default that moves a robot."""
        robot = self.robot()
        options: dict[str, Any] = {**robot.options, self.unknown_option: 1}
        try:
            make_driver(replace(robot, options=options))
        except ValueError as error:
            assert self.unknown_option in str(error), "the message names the option"
        else:
            raise AssertionError(f"the unknown option {self.unknown_option!r} was accepted")

    def test_a_measurement_has_the_joints_and_sensors_that_were_announced(self) -> None:
        """Shapes, types, and a time on the loop's clock."""
        num_joints = self.robot().control.limits.num_joints
        with self.connected() as driver:
            before = time.monotonic()
            state = self.measure(driver)
            assert before <= state.time <= time.monotonic(), "time is when it was measured"
            for name, size in (("position", num_joints), ("velocity", num_joints),
                               ("sensors", driver.num_sensors)):  # fmt: skip
                value = getattr(state, name)
                assert value.shape == (size,) and value.dtype == np.float64, name
                assert np.isfinite(value).all(), name
            assert state.fault == ""

    def test_measurements_are_new_and_are_not_written_over(self) -> None:
        """The loop keeps them: a history, a log, the policy's snapshot."""
        with self.connected() as driver:
            first = self.measure(driver)
            kept = np.array(first.position)
            second = self.measure(driver)
            assert second.time > first.time or driver.clock == "device"
            assert second.position is not first.position
            np.testing.assert_array_equal(first.position, kept)

    def test_connecting_moves_nothing(self) -> None:
        """The joints hold where they are until the first command."""
        with self.connected() as driver:
            start = self.measure(driver).position
            time.sleep(5 * PERIOD)
            moved = np.abs(self.measure(driver).position - start).max()
            assert moved <= self.tolerance, f"a joint moved by {moved}"

    def test_the_joints_go_where_they_are_sent(self) -> None:
        """Position, unit and direction: what is commanded is what is measured."""
        bounds = self.robot().control.limits.arrays
        with self.connected() as driver:
            start = self.measure(driver).position
            towards = np.where(start < (bounds.low + bounds.high) / 2, 1.0, -1.0)
            goal = start + self.step * towards
            for _ in range(max(round((self.settle or 0) / PERIOD), 1)):
                driver.write(Motion.at_rest(goal))
                time.sleep(PERIOD)
                self.measure(driver)
            if self.settle is not None:
                error = np.abs(self.measure(driver).position - goal).max()
                assert error <= self.tolerance, f"a joint is {error} from its command"

    def test_a_command_is_not_written_over(self) -> None:
        """The loop goes on from the command that it sent."""
        with self.connected() as driver:
            motion = Motion.at_rest(self.measure(driver).position)
            kept = [np.array(part) for part in motion]
            driver.write(motion)
            self.measure(driver)
            for part, expected in zip(motion, kept, strict=True):
                np.testing.assert_array_equal(part, expected)

    def test_a_robot_that_can_be_looked_at_is_not_moved_by_that(self) -> None:
        """The loop looks first, and takes hold only of a robot that may be armed as it is."""
        driver = make_driver(self.robot())
        if not isinstance(driver, Inspectable):
            return
        try:
            driver.inspect()
            looked = self.measure(driver)
            assert np.isfinite(looked.position).all() and looked.fault == ""
            driver.connect()
            # By its weight a limp joint may have sunk meanwhile.
            moved = np.abs(self.measure(driver).position - looked.position).max()
            assert moved <= self.tolerance, f"a joint moved by {moved}"
        finally:
            driver.disconnect(torque_off=False)

    def test_it_can_be_disconnected_at_any_time_twice_and_connected_again(self) -> None:
        """The loop disconnects in a ``finally``, whatever failed before."""
        driver = make_driver(self.robot())
        driver.disconnect(torque_off=False)
        driver.connect()
        driver.disconnect(torque_off=False)
        driver.disconnect(torque_off=False)
        with self.connected() as again:
            self.measure(again)


class CameraConformance:
    """Every camera passes these tests; override `camera`.

    Attributes:
        patience: How long a picture may take [s].
        unknown_option: A name that is no option of the camera.
    """

    patience: float = 5.0
    unknown_option: str = "no_such_option"

    def camera(self) -> CameraConfig:
        """The camera's configuration; its driver is the one to be tested."""
        raise NotImplementedError("override camera() to name the driver and its options")

    def state(self) -> RobotState | None:
        """What the robot measured last, for cameras that are drawn."""
        return None

    @contextmanager
    def opened(self) -> Generator[Camera, None, None]:
        """An open camera that is closed at the end."""
        camera = make_camera(self.camera(), self.state)
        camera.open()
        try:
            yield camera
        finally:
            camera.close()

    def picture(self, camera: Camera) -> Picture:
        """A picture, waited for."""
        deadline = time.monotonic() + self.patience
        while (picture := camera.read()) is None:
            assert time.monotonic() < deadline, f"no picture within {self.patience} s"
            time.sleep(0.01)
        return picture

    def test_it_refuses_an_option_that_it_does_not_know(self) -> None:
        """A typing error must not become a default."""
        config = self.camera()
        options: Mapping[str, Any] = {**config.options, self.unknown_option: 1}
        try:
            make_camera(replace(config, options=dict(options)), self.state)
        except ValueError as error:
            assert self.unknown_option in str(error), "the message names the option"
        else:
            raise AssertionError(f"the unknown option {self.unknown_option!r} was accepted")

    def test_a_picture_has_the_size_that_was_asked_for_and_a_time(self) -> None:
        """Colours in the order red, green, blue; the time on the loop's clock, latency included."""
        height, width = self.camera().size
        with self.opened() as camera:
            picture = self.picture(camera)
            assert picture.image.shape == (height, width, 3)
            assert picture.image.dtype == np.uint8
            assert picture.time <= time.monotonic() - self.camera().latency

    def test_a_picture_is_not_written_over_by_the_next_one(self) -> None:
        """The policy may look at one while the next is taken."""
        with self.opened() as camera:
            picture = self.picture(camera)
            kept = np.array(picture.image)
            time.sleep(0.1)
            self.picture(camera)
            np.testing.assert_array_equal(picture.image, kept)

    def test_it_can_be_closed_at_any_time_twice_and_opened_again(self) -> None:
        """A camera that stops is closed and opened again during a run."""
        camera = make_camera(self.camera(), self.state)
        camera.close()
        camera.open()
        self.picture(camera)
        camera.close()
        camera.close()
        camera.open()
        self.picture(camera)
        camera.close()
