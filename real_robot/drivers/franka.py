"""Franka FR3 and Panda through `franka-rs`: its loop in Rust talks to the robot at 1 kHz.

No Python runs between the robot's packet and its answer, so a busy interpreter cannot cost a
cycle; our commands, limited already, are targets that the Rust loop follows under limits of its
own. If this process dies, the robot misses its answers and stops by itself after 20 ms.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ...decoding.plumbing.extras import require
from ..config import RobotConfig
from ..core.events import RobotState
from ..core.limits import Motion, Vector
from .driver import BusError, Clock, check_options

BACKENDS = ("robot", "impedance")
# The wider of the two arms' limits, from Franka's documentation of FR3 and Panda.
HARDWARE = {
    "low": (-2.8973, -1.7837, -2.9007, -3.0718, -2.8973, -0.0175, -3.0159),
    "high": (2.8973, 1.7837, 2.9007, -0.0698, 2.8973, 4.5169, 3.0159),
    "velocity": (2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26),
    "acceleration": (15.0, 10.0, 10.0, 12.5, 15.0, 20.0, 20.0),
    "jerk": (7500.0, 5000.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0),
}


class FrankaDriver:
    """One arm of seven joints.

    Args:
        config: Options: ``address`` of the robot; ``fraction`` of its limits that the Rust loop
            may use, 0.5 by default, above what our own limits ask for; ``backend``, ``"robot"``
            (its joint impedance control, the default) or ``"impedance"`` (torques of franka-rs).
        monotonic: Clock [s].
    """

    clock: Clock = "host"
    num_sensors = 0

    def __init__(
        self, config: RobotConfig, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        options = config.options
        check_options(options, {"address": str, "fraction": float, "backend": str})
        if not options.get("address"):
            raise ValueError(
                "driver franka needs the option address, e.g. robot.options.address=172.16.0.2"
            )
        _check_limits(config)
        self._address: str = options["address"]
        self._fraction = float(options.get("fraction", 0.5))
        self._backend: str = options.get("backend", "robot")
        if not 0 < self._fraction <= 1 or self._backend not in BACKENDS:
            raise ValueError(
                f"driver options fraction and backend must be in (0, 1] and one of {BACKENDS}, got "
                f"{self._fraction:g} and {self._backend!r}"
            )
        self._monotonic = monotonic
        self._franka: Any = require("franka", "franka")
        self._arm: Any = None

    def connect(self) -> None:
        """Connect and start following targets, the first of which is where the arm is."""
        try:
            robot = self._franka.Robot(self._address)
            if errors := robot.read_once().current_errors:
                raise ConnectionError(f"{self._address}: the robot reports {', '.join(errors)}")
            arm = robot.joint_targets(fraction=self._fraction, backend=self._backend)
            self._arm = arm.__enter__()
        except self._franka.FrankaError as error:
            raise ConnectionError(f"{self._address}: {error}") from error

    def read(self) -> RobotState:
        """The newest state that the Rust loop received."""
        try:
            state = self._arm.state()
        except self._franka.FrankaError as error:
            raise BusError(f"{self._address}: {error}") from error
        fault = ""
        if state.current_errors:
            fault = f"the robot reports {', '.join(state.current_errors)}"
        elif not self._arm.running:
            fault = "the robot ended the motion"
        position: Vector = np.array(state.q)
        return RobotState(self._monotonic(), position, np.array(state.dq), fault, np.zeros(0))

    def write(self, motion: Motion) -> None:
        """Set the target; without a running motion there is nobody to take it."""
        try:
            self._arm.move_to(motion.position)
        except self._franka.FrankaError as error:
            raise BusError(f"{self._address}: {error}") from error

    def disconnect(self, torque_off: bool) -> None:
        """End the motion; the arm holds with its own brakes and control."""
        arm, self._arm = self._arm, None
        if arm is None:
            return
        # A motion that ended with a reflex raises it once more; `read` has reported it.
        with contextlib.suppress(self._franka.FrankaError):
            arm.stop()


def _check_limits(config: RobotConfig) -> None:
    """Raise ValueError for limits that are not those of a Franka arm."""
    limits = config.control.limits
    if limits.num_joints != 7:
        raise ValueError(f"a Franka arm has 7 joints, the limits are for {limits.num_joints}")
    for name, bounds in HARDWARE.items():
        for joint, (value, bound) in enumerate(zip(getattr(limits, name), bounds, strict=True)):
            if (value < bound) if name == "low" else (value > bound):
                raise ValueError(
                    f"control.limits.{name} of joint {joint} is {value:g}, a Franka arm has "
                    f"{bound:g}"
                )
