"""A MuJoCo model inside the control process: the robot that everybody has."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..config import RobotConfig
from ..core.events import RobotState
from ..core.limits import Motion
from ..emulator.plant import Plant
from .driver import Clock, check_options, numbers


class MujocoDriver:
    """Drives a simulated robot in real time.

    Args:
        config: Options: ``model``, name or path; ``position`` and ``scene``, where the robot's
            and the scene's joints start.
        monotonic: Clock that the simulation keeps up with [s].
    """

    clock: Clock = "host"

    def __init__(
        self, config: RobotConfig, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        options = config.options
        check_options(options, {"model": str, "position": list, "scene": list})
        if "model" not in options:
            raise ValueError("driver mujoco needs the option model, e.g. options.model=table")
        start = {name: numbers(options, name) for name in ("position", "scene") if name in options}
        self._plant = Plant(options["model"], start.get("position"), start.get("scene"))
        if self._plant.num_joints != config.control.limits.num_joints:
            raise ValueError(
                f"model {options['model']!r} has {self._plant.num_joints} driven joints, the "
                f"limits are for {config.control.limits.num_joints}"
            )
        self._monotonic = monotonic

    @property
    def num_sensors(self) -> int:
        """Positions of the scene's joints."""
        return self._plant.num_sensors

    def connect(self) -> None:
        """Start the simulation's clock."""
        self._plant.catch_up(self._monotonic())

    def read(self) -> RobotState:
        """Simulate until now and measure."""
        now = self._monotonic()
        self._plant.catch_up(now)
        return RobotState(now, self._plant.position, self._plant.velocity, "", self._plant.sensors)

    def write(self, motion: Motion) -> None:
        """Set the actuators' targets."""
        self._plant.target = motion.position

    def disconnect(self, torque_off: bool) -> None:
        """Nothing to close."""
