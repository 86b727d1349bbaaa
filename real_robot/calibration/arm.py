"""An arm of servos that somebody moves by hand."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ..core.limits import Vector
from ..drivers.driver import BusError
from ..drivers.servo_access import Bus
from ..drivers.servo_registers import REGISTERS
from .measure import steady

ATTEMPTS = 25
NUM_STEADY = 10
STEADY_PERIOD = 0.02  # [s]


class LimpArm:
    """Servos without torque, read again and again.

    Args:
        bus: An open bus.
        family: Name of the servo family.
        joints: Name of each joint.
        sleep: Waits [s].
    """

    def __init__(
        self,
        bus: Bus,
        family: str,
        joints: tuple[str, ...],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.bus, self.registers = bus, REGISTERS[family]
        self.joints = joints
        self._sleep = sleep

    @property
    def named(self) -> list[str]:
        """Each joint together with its servo."""
        return [
            f"{name} (servo {number})"
            for name, number in zip(self.joints, self.bus.ids, strict=True)
        ]

    @property
    def stiff(self) -> bool:
        """Whether a servo holds its joint."""
        torque = self.registers.torque
        return any(self.bus.get(number, torque.address) for number in self.bus.ids)

    def missing(self) -> list[str]:
        """Joints whose servo does not answer."""
        found = zip(self.named, self.bus.ids, strict=True)
        return [name for name, number in found if not self.bus.answers(number)]

    def ticks(self) -> Vector:
        """Encoder counts of all joints, shape (D,); a failed exchange is repeated."""
        for _ in range(ATTEMPTS - 1):
            try:
                return np.asarray(self.bus.read()[0], np.float64)
            except BusError:
                self._sleep(STEADY_PERIOD)
        return np.asarray(self.bus.read()[0], np.float64)

    def pose(self) -> Vector | None:
        """Encoder counts where the arm is held, shape (D,), None while it still moves."""
        readings: list[Vector] = []
        for _ in range(NUM_STEADY):
            readings.append(self.ticks())
            self._sleep(STEADY_PERIOD)
        return steady(readings)
