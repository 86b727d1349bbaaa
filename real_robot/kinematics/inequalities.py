"""What one iteration of inverse kinematics may do, as inequalities G dq <= h for mink."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.limits import Vector
from .arm import FAR, Arm

GAIN = 0.85  # Share of the room before a contact that one iteration may take.


def brakable(room: Vector, braking: Vector | float, duration: float) -> Vector:
    """Largest way within a duration [s] after whose speed the rest of the room is left to brake.

    It is x in x + (x / duration)^2 / (2 braking) = room.
    """
    unit = np.asarray(braking) * duration**2
    return unit * (np.sqrt(1 + 2 * np.maximum(room, 0.0) / unit) - 1)


class Box:
    """How far each solved joint may go.

    Attributes:
        low: Shape (n,), at most 0.
        high: Shape (n,), at least 0.
    """

    def __init__(self, mink: Any, arm: Arm) -> None:
        self.low = self.high = np.zeros(len(arm.dofs))
        self._make = mink.limits.Constraint
        self._rows: Vector = np.eye(arm.model.nv)[arm.dofs]

    def compute_qp_inequalities(self, configuration: Any, dt: float) -> Any:
        """The inequality, by mink's name for it."""
        del configuration, dt
        rows = np.vstack([self._rows, -self._rows])
        return self._make(G=rows, h=np.concatenate([self.high, -self.low]))


class Contacts:
    """How near parts of the arm, and planes, may come to each other.

    The control loop brakes each joint at its acceleration limit, so parts that approach each other
    faster than they could stop before the clearance would go beyond it. Between two poses they
    come nearer by x at most, such that x / duration can still be braked in what is left.

    Args:
        mink: The library.
        arm: Its `pairs` keep apart.
        braking: How fast the tool can be braked [m/s2].
    """

    def __init__(self, mink: Any, arm: Arm, braking: float) -> None:
        apart = [([first], [second]) for first, second in arm.pairs]
        clearance = arm.config.clearance
        # With a step of 1 its bounds are the ways to the clearance.
        self._limit = mink.CollisionAvoidanceLimit(
            arm.model, apart, 1.0, clearance, clearance + FAR
        )
        self._make, self._braking = mink.limits.Constraint, braking
        self._least: Vector = np.zeros(len(self._limit.geom_id_pairs))

    def begin(self, configuration: Any, duration: float) -> None:
        """Start the way to another pose; with an infinite duration nothing has to be braked."""
        room: Vector = self._limit.compute_qp_inequalities(configuration, 1.0).h
        if not np.isfinite(duration):
            self._least = np.zeros(len(room))
            return
        room = np.minimum(room, FAR)
        self._least = room - brakable(room, self._braking, duration)

    def compute_qp_inequalities(self, configuration: Any, dt: float) -> Any:
        """The inequality, by mink's name for it."""
        del dt
        rows, room = self._limit.compute_qp_inequalities(configuration, 1.0)
        return self._make(G=rows, h=GAIN * np.maximum(room - self._least, 0.0))
