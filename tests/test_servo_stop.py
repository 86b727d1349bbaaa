"""Controller, watched servos and a simulated arm behind them, cycle by cycle in virtual time."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from test_servo_bus import serving

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.controller import Controller
from hotloop.real_robot.core.controller_config import ControllerConfig
from hotloop.real_robot.core.events import Mailbox, Mode, Request
from hotloop.real_robot.core.limits import Limits
from hotloop.real_robot.core.trajectory import Chunk
from hotloop.real_robot.drivers.servo_bus import ServoBusDriver
from hotloop.real_robot.emulator.bus import ServoBus

pytestmark = pytest.mark.realtime

DT = 0.02
REACTION = 0.2  # [s]
LIMITS = Limits((-1.5,) * 6, (1.5,) * 6, (2.0,) * 6, (10.0,) * 6, (400.0,) * 6)
CONTROL = ControllerConfig(LIMITS, DT)
BOTH = pytest.mark.parametrize("protocol", ["dynamixel", "feetech"])


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Run:
    """A robot that is sent to 1 rad with its first joint, again and again."""

    driver: ServoBusDriver
    bus: ServoBus
    clock: Clock
    controller: Controller = field(default_factory=lambda: Controller(CONTROL))
    texts: list[str] = field(default_factory=list)
    cycles: int = 0

    def cycle(self, request: Request = Request.NONE) -> None:
        """One control period of the loop and of the arm."""
        self.cycles += 1
        self.clock.now += DT
        with self.bus.servos.lock:
            self.bus.servos.plant.catch_up(self.clock.now)
        now, state = self.clock.now, self.driver.read()
        goals = np.array([[1.0, 0, 0, 0, 0, 0]] * 2)
        chunk = Chunk(self.cycles, now - DT, now + np.array([0.2, 1.0]), goals)
        output = self.controller.step(now, state, Mailbox(chunk, request))
        if output.command is not None:
            self.driver.write(output.command)
        self.texts += [event.text for event in output.events]

    def until(self, mode: Mode, most: float) -> float:
        """Go on until the controller is in a mode; how long that took [s]."""
        began = self.clock.now
        while self.controller.mode is not mode and self.clock.now - began < most:
            self.cycle()
        return self.clock.now - began


@contextmanager
def running(protocol: str, **options):
    """A robot at its first joint's way to 1 rad, with 0.3 s behind it."""
    clock = Clock()
    with serving(protocol, monotonic=clock) as bus:
        settings = {"port": bus.port, "reply_timeout": 0.5, **options}
        config = RobotConfig("arm", protocol, CONTROL, settings)
        driver = ServoBusDriver(config, clock)
        driver.connect()
        run = Run(driver, bus, clock)
        run.cycle(Request.ARM)
        for _ in range(15):
            run.cycle()
        assert run.controller.mode is Mode.RUN
        yield run
        driver.disconnect(torque_off=False)


@BOTH
@pytest.mark.parametrize("what", ["reboot", "relax", "fail"])
def test_a_limp_servo_stops_the_robot(protocol, what) -> None:
    with running(protocol) as run:
        with run.bus.servos.lock:
            getattr(run.bus.servos, what)(4)
        assert run.until(Mode.STOP, 1.0) < REACTION
        assert any("servo 4" in text and "joint 3" in text for text in run.texts), run.texts


@BOTH
def test_a_blocked_joint_is_not_pushed_for_good(protocol) -> None:
    with running(protocol) as run:
        plant = run.bus.servos.plant
        place = float(plant.position[0])
        plant.obstruct(0, -2.0, place + 0.02)
        assert run.until(Mode.STOP, 3.0) < 1.5
        assert any("servo 1 pushes" in text for text in run.texts), run.texts
        pushed = abs(plant.load(0))
        for _ in range(50):
            run.cycle()
        assert pushed > 0.5 and abs(plant.load(0)) < 0.2
        np.testing.assert_allclose(plant.target, plant.position, atol=0.05)
