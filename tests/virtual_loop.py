"""The control loop in virtual time, around a robot whose cycles can be made slow or fail."""

from __future__ import annotations

import numpy as np
from robots import LIMITS, chunk

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.controller import ControllerConfig
from hotloop.real_robot.core.events import Request
from hotloop.real_robot.drivers import BusError
from hotloop.real_robot.drivers.dry_run import DryRunDriver
from hotloop.real_robot.runtime.channels import (
    Channels,
    Sizes,
    chunk_dtype,
    pack_chunk,
    unpack_event,
)
from hotloop.real_robot.runtime.loop import ControlLoop

DT = 0.01
ROBOT = RobotConfig(
    "virtual", "dry-run", ControllerConfig(LIMITS, DT), {"position": [0.0, 0.0]}, bus_budget=3
)


class World:
    """Virtual time, and a robot in it whose cycles can be made slow or fail."""

    def __init__(self, robot: RobotConfig = ROBOT, num_sensors: int = 0) -> None:
        self.now, self.cycle = 50.0, 0
        self.slow: dict[int, float] = {}
        self.broken: range = range(0)
        self.wakes: list[float] = []
        self.writes: list[np.ndarray] = []
        self.disconnected: list[bool] = []
        self.clock = "host"
        self.num_sensors = num_sensors
        self._inner = DryRunDriver(robot, lambda: self.now)
        self.channels = Channels(Sizes(2, num_sensors, DT))
        self.loop = ControlLoop(robot, self, self.channels, lambda: self.now, self.sleep)
        self.plan = lambda cycle: None

    def close(self) -> None:
        self.channels.close()

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds + 1e-4
        self.wakes.append(self.now)

    def connect(self) -> None:
        pass

    def read(self):
        self.cycle += 1
        self.plan(self.cycle)
        if self.cycle in self.broken:
            raise BusError("no answer")
        return self._inner.read()

    def write(self, motion) -> None:
        self.writes.append(motion.position)
        self._inner.write(motion)
        self.now += self.slow.get(self.cycle, 1e-3)
        if self.cycle in self.broken:
            raise BusError("no answer")

    def disconnect(self, torque_off: bool) -> None:
        self.disconnected.append(torque_off)

    def run(self, cycles: int, send=lambda world, cycle: None) -> None:
        def plan(cycle: int) -> None:
            if cycle == 2:
                self.channels.ask(Request.ARM)
            if cycle >= 3 and cycle % 10 == 3:
                send(self, cycle)
            if cycle == cycles:
                self.loop.end()

        self.plan = plan
        self.loop.run()

    def events(self) -> str:
        return "\n".join(unpack_event(record)[1].text for record in self.channels.events.pop())

    def status(self):
        status = self.channels.status.read()
        assert status is not None
        return status


def move(world: World, cycle: int) -> None:
    """A chunk towards a far pose."""
    made = chunk(cycle, world.now - 1e-3, [(0.9, 1.2)] * 4, dt=0.2)
    world.channels.chunk.write(pack_chunk(made, chunk_dtype(world.channels.sizes)))


def run_with_stalls(
    world: World, stalls: dict[int, tuple[str, float]]
) -> list[tuple[float, np.ndarray]]:
    """Run while the process is stopped in some cycles; returns what came to the robot, and when."""
    dt, loop = world.loop.config.control.dt, world.loop
    came: list[tuple[float, np.ndarray]] = []

    def stall(where: str, call):
        def stalled(*arguments):
            result = call(*arguments)
            if stalls.get(world.cycle, ("", 0.0))[0] == where:
                world.now += stalls[world.cycle][1] * dt
            return result

        return stalled

    def write(motion, send=world.write) -> None:
        came.append((world.now, motion.position))
        send(motion)

    loop._sleep = stall("sleep", loop._sleep)
    loop.controller.step = stall("step", loop.controller.step)
    world.read, world.write = stall("read", world.read), stall("write", write)
    world.run(120, move)
    return came
