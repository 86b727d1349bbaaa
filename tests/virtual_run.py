"""A robot policy on a simulated robot in virtual time: what the processes of a run do, at once."""

from __future__ import annotations

import numpy as np

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.controller import Controller
from hotloop.real_robot.core.events import Mailbox, Mode, Request, RobotState
from hotloop.real_robot.core.trajectory import Chunk
from hotloop.real_robot.emulator.plant import Plant
from hotloop.real_robot.policies.protocol import RobotPolicy, Snapshot

# From a snapshot until the loop has the chunk [s].
THINKING = 0.004


class VirtualRun:
    """Runs a policy on a robot of the driver `mujoco`; attributes tell what happened.

    Args:
        robot: Its driver's options name model, position and scene.
        policy: What moves it.
    """

    def __init__(self, robot: RobotConfig, policy: RobotPolicy) -> None:
        options = robot.options
        start = {key: np.asarray(options[key]) for key in ("position", "scene") if key in options}
        self.plant = Plant(options["model"], start.get("position"), start.get("scene"))
        self.controller, self.policy = Controller(robot.control), policy
        self.now, self.dt = 100.0, robot.control.dt
        self.sensors: list[np.ndarray] = []
        self.positions: list[np.ndarray] = []
        self.said: list[str] = []
        self._sequence, self._due = 0, self.now
        self._on_its_way: Chunk | None = None
        self.plant.catch_up(self.now)

    def run(self, seconds: float) -> VirtualRun:
        """Arm, and let time pass."""
        request = Request.ARM
        for _ in range(round(seconds / self.dt)):
            self.plant.catch_up(self.now)
            plant = self.plant
            measured = RobotState(self.now, plant.position, plant.velocity, "", plant.sensors)
            output = self.controller.step(self.now, measured, Mailbox(self._chunk(), request))
            request = Request.NONE
            if output.command is not None:
                self.plant.target = np.asarray(output.command.position)
            self.said += [event.text for event in output.events]
            self._plan(measured)
            self.positions.append(measured.position)
            self.sensors.append(measured.sensors)
            self.now += self.dt
        return self

    def _chunk(self) -> Chunk | None:
        """The newest plan, once it has been thought out."""
        chunk = self._on_its_way
        if chunk is None or self.now < chunk.observed_at + THINKING:
            return None
        self._on_its_way = None
        return chunk

    def _plan(self, measured: RobotState) -> None:
        if self.now < self._due or self.controller.mode in (Mode.IDLE, Mode.STOP):
            return
        self._due += self.policy.period
        snapshot = Snapshot(
            self.now, measured.position, measured.velocity, measured.sensors,
            sequence=self._sequence, mode=self.controller.mode,
        )  # fmt: skip
        self._sequence += 1
        chunk = self.policy.plan(snapshot)
        self._on_its_way = chunk or self._on_its_way
