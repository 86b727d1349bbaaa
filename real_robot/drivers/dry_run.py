"""A robot that does not exist: the whole path is run, nothing is written to a device."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ..config import RobotConfig
from ..core.events import RobotState
from ..core.limits import Motion
from .driver import Clock, check_options, numbers


class DryRunDriver:
    """Reports its last command as measurement.

    Args:
        config: Options: ``position``, where it starts, the middle of the limits by default;
            ``scene``, what its sensors tell, always the same.
        monotonic: Clock [s].
    """

    clock: Clock = "host"

    def __init__(
        self, config: RobotConfig, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        check_options(config.options, {"position": list, "scene": list})
        limits = config.control.limits.arrays
        options = {"position": (limits.low + limits.high) / 2, "scene": (), **config.options}
        self._motion = Motion.at_rest(numbers(options, "position", len(limits.low)))
        self._scene = numbers(options, "scene")
        self._monotonic = monotonic

    @property
    def num_sensors(self) -> int:
        """Length of the option ``scene``."""
        return len(self._scene)

    def connect(self) -> None:
        """Nothing to open."""

    def read(self) -> RobotState:
        """The last command."""
        motion = self._motion
        return RobotState(
            self._monotonic(),
            np.array(motion.position),
            np.array(motion.velocity),
            "",
            np.array(self._scene),
        )

    def write(self, motion: Motion) -> None:
        """Keep the command."""
        self._motion = motion

    def disconnect(self, torque_off: bool) -> None:
        """Nothing to close."""
