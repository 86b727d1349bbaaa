"""The robot itself is led through a task by hand, with its torque off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..config import RobotConfig
from ..core.trajectory import Chunk
from ..policies.protocol import Snapshot

AHEAD = 10  # periods that a plan lasts, should the next look be late


class HandPolicy:
    """Asks for nothing: the robot is where the hand leads it.

    What it did is where it was measured; what the loop is told goes nowhere, see `PassiveDriver`.

    Args:
        period: Time between two looks [s].
    """

    cameras: tuple[str, ...] = ()
    by_hand = True

    def __init__(self, period: float) -> None:
        self.period = period

    def reset(self, seed: int) -> None:
        """There is nothing to start."""

    def plan(self, snapshot: Snapshot) -> Chunk:
        """Where the robot is."""
        times = snapshot.time + self.period * np.arange(1.0, AHEAD + 1)
        return snapshot.chunk(times, np.tile(snapshot.position, (AHEAD, 1)))


def led_by_hand(robot: RobotConfig) -> RobotConfig:
    """The same robot with its torque off: it is read and sent nothing."""
    options = {"driver": robot.driver, "options": robot.options}
    control = replace(robot.control, tracking_error=(), slow_start=0.0)
    return replace(
        robot, driver="passive", options=options, control=control, template=not robot.calibrated
    )
