"""What the servos of both protocols have in common: registers in front of a simulated joint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.limits import Vector
from .plant import Plant

TICKS_PER_TURN = 4096
CENTRE = 2048
# What the encoder counts per radian.
TICKS = TICKS_PER_TURN / (2 * np.pi)


class Servos:
    """Joints of a plant as servos with IDs.

    Args:
        plant: The simulated joints, at zero where a servo reads 2048.
        ids: ID of each joint's servo.
    """

    def __init__(self, plant: Plant, ids: Sequence[int]) -> None:
        if len(ids) != plant.num_joints or len(set(ids)) != len(ids):
            raise ValueError(
                f"the model has {plant.num_joints} joints and needs as many different IDs, "
                f"got {list(ids)}"
            )
        self.plant = plant
        self.joints = {number: joint for joint, number in enumerate(ids)}
        self.plant.torque[:] = False

    def ticks(self, number: int) -> int:
        """Position of a servo in encoder counts."""
        return round(self.plant.position[self.joints[number]] * TICKS) + CENTRE

    def speed(self, number: int) -> float:
        """Velocity of a servo [rad/s]."""
        return float(self.plant.velocity[self.joints[number]])

    def aim(self, number: int, ticks: int) -> None:
        """Give a servo a new goal in encoder counts."""
        target: Vector = np.array(self.plant.target)
        target[self.joints[number]] = (ticks - CENTRE) / TICKS
        self.plant.target = target

    def hold(self, number: int) -> None:
        """Let a servo stay where it is."""
        self.aim(number, self.ticks(number))

    def power(self, number: int, on: bool) -> None:
        """Switch a servo's torque; it holds its place when it is switched on."""
        if on and not self.plant.torque[self.joints[number]]:
            self.hold(number)
        self.plant.torque[self.joints[number]] = on
