"""The drivers and cameras that come along pass the suites that others prove theirs with."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from hotloop.real_robot.config import CameraConfig, RobotConfig
from hotloop.real_robot.conformance import CameraConformance, DriverConformance
from hotloop.real_robot.core.controller import ControllerConfig
from hotloop.real_robot.core.events import RobotState
from hotloop.real_robot.core.limits import Limits, Motion
from hotloop.real_robot.drivers.dry_run import DryRunDriver
from hotloop.real_robot.emulator.bus import PROTOCOLS, ServoBus
from hotloop.real_robot.emulator.plant import Plant

LIMITS = Limits((-1.5,) * 6, (1.5,) * 6, (2.0,) * 6, (10.0,) * 6, (400.0,) * 6)
CONTROL = ControllerConfig(LIMITS, 0.01)


class TestDryRun(DriverConformance):
    tolerance = 1e-12

    def robot(self) -> RobotConfig:
        return RobotConfig("dry", "dry-run", CONTROL, {"scene": [1.0, 2.0]})


class TestMujoco(DriverConformance):
    def robot(self) -> RobotConfig:
        return RobotConfig("arm", "mujoco", CONTROL, {"model": "arm6"})


class EmulatedServos(DriverConformance):
    protocol = ""

    def setup_method(self) -> None:
        self.going = threading.Event()
        self.going.set()
        self.bus = ServoBus(PROTOCOLS[self.protocol](Plant("arm6"), (7, 2, 3, 4, 5, 6)))
        self.thread = threading.Thread(target=self.bus.serve, args=(self.going.is_set,))
        self.thread.start()

    def teardown_method(self) -> None:
        self.going.clear()
        self.thread.join()
        self.bus.__exit__()

    def robot(self) -> RobotConfig:
        options = {"port": self.bus.port, "ids": [7, 2, 3, 4, 5, 6], "reply_timeout": 0.2}
        options["direction"] = [1, -1, 1, 1, -1, 1]
        return RobotConfig("servos", self.protocol, CONTROL, options)


class TestEmulatedDynamixel(EmulatedServos):
    protocol = "dynamixel"


class TestEmulatedFeetech(EmulatedServos):
    protocol = "feetech"


class TestDrawnCamera(CameraConformance):
    def camera(self) -> CameraConfig:
        return CameraConfig("mujoco", (24, 32), 0.02, {"model": "arm6", "view": "front"})

    def state(self) -> RobotState:
        import time

        return RobotState(time.monotonic(), np.zeros(6), np.zeros(6), "", np.zeros(0))


class TestOpenCvCamera(CameraConformance):
    @pytest.fixture(autouse=True)
    def video(self, tmp_path) -> None:
        cv2 = pytest.importorskip("cv2")
        self.path = tmp_path / "clip.avi"
        writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (64, 48))
        for shade in range(40):
            writer.write(np.full((48, 64, 3), 6 * shade, np.uint8))
        writer.release()

    def camera(self) -> CameraConfig:
        return CameraConfig("opencv", (24, 32), 0.01, {"source": str(self.path)})


class Aliasing(DryRunDriver):
    """Hands out its own memory."""

    def read(self) -> RobotState:
        state = super().read()
        self._memory = getattr(self, "_memory", np.zeros(6))
        self._memory[:] = state.position + 1e-3 * state.time
        return RobotState(state.time, self._memory, state.velocity, "", state.sensors)


class Inverted(DryRunDriver):
    """Turns its joints the wrong way round."""

    def write(self, motion: Motion) -> None:
        super().write(Motion.at_rest(-motion.position))


class Careless(DryRunDriver):
    """Takes whatever options it is given."""

    def __init__(self, config: RobotConfig) -> None:
        known = {key: value for key, value in config.options.items() if key == "position"}
        super().__init__(RobotConfig(config.name, config.driver, config.control, known))


@pytest.mark.parametrize(
    ("driver", "test"),
    [
        ("Aliasing", "test_measurements_are_new_and_are_not_written_over"),
        ("Inverted", "test_the_joints_go_where_they_are_sent"),
        ("Careless", "test_it_refuses_an_option_that_it_does_not_know"),
    ],
)
def test_the_suite_finds_drivers_that_break_the_protocol(driver, test, monkeypatch) -> None:
    class Broken(DriverConformance):
        def robot(self) -> RobotConfig:
            options = {"position": [0.3, 0.2, 0.1, 0.3, 0.2, 0.1]}
            return RobotConfig("broken", f"{__name__}:{driver}", CONTROL, options)

    with pytest.raises(AssertionError):
        getattr(Broken(), test)()
