"""Joint positions that bring the tool to a pose: differential inverse kinematics by mink."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...decoding.plumbing.extras import require
from ..core.limits import Vector
from .arm import FAR, Arm
from .pose import Pose

MAX_ITERATIONS = 30
LARGEST_STEP = 0.15  # Per iteration and joint [rad or m]: the Jacobian holds for little more.
SMALL = 1e-6  # A step that moves nothing [rad or m].
POSTURE_COST = 1e-3  # Of 1 rad away from the posture that the arm keeps if it may choose [m/rad].
DAMPING = 1e-8
ROUNDING = 1e-3  # How far a straightened contact may come out below the clearance [m].


class Solution(NamedTuple):
    """Where the joints are to be for a pose.

    Attributes:
        position: Joint positions, shape (J,).
        problem: Why the pose cannot be had, empty if it can, or will be as soon as the joints have
            caught up.
    """

    position: Vector
    problem: str


class Solver:
    """Brings a tool from pose to pose within joint limits, speeds, clearances and planes.

    Each pose is the solution of a few quadratic programs, each linearised where the one before
    ended (mink, https://github.com/kevinzakka/mink). What comes out is measured anew: mink's word
    is not taken for anything.

    Args:
        arm: The arm.
        velocity: Largest speed of each joint [rad/s or m/s], shape (J,).
    """

    def __init__(self, arm: Arm, velocity: Vector) -> None:
        mink: Any = require("mink", "ik")
        require("daqp", "ik")
        self._qpsolvers: Any = require("qpsolvers", "ik")
        self.arm, self._velocity, self._mink = arm, velocity, mink
        config, model = arm.config, arm.model
        self._configuration: Any = mink.Configuration(model)
        self._task: Any = mink.FrameTask(
            config.tool, arm.tool_type, 1.0, config.rotation_weight, lm_damping=1e-2
        )
        self._posture: Any = mink.PostureTask(model, POSTURE_COST)
        self._box: Any = _box_limit(mink, arm.dofs, model.nv)
        self._limits: list[Any] = [self._box]
        if arm.pairs:
            self._limits.append(_contact_limit(mink, arm))
        self._frozen: list[Any] = (
            [mink.DofFreezingTask(model, arm.frozen)] if arm.frozen else []
        )
        self._posture.set_target(model.qpos0)

    def rest(self, position: Vector) -> None:
        """Keep the posture of `position`, shape (J,), where the pose leaves a choice."""
        self._posture.set_target(self.arm.qpos(position))
