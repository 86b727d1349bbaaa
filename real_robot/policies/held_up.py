"""From when on a joint is somewhere else than planned; one rule for all who plan ahead."""

from __future__ import annotations

import numpy as np

from ..config import RobotConfig
from ..core.limits import Vector

# Where the robot file says nothing of tracking [rad or m].
FARTHEST = 0.5


def farthest_behind(robot: RobotConfig) -> Vector:
    """How far from its plan a joint may be before a plan begins anew where it is, shape (D,).

    Half of `ControllerConfig.tracking_error`, in [rad] or [m]: the new plan comes before the loop
    would stop the robot.
    """
    allowed = robot.control.tracking_error
    if not allowed:
        return np.full(robot.control.limits.num_joints, FARTHEST)
    return np.asarray(allowed, np.float64) / 2
