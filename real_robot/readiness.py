"""Whether a robot's configuration says what it must say before anything may move."""

from __future__ import annotations

import numpy as np

from .config import RobotConfig
from .drivers.servo_options import FAMILIES

# A joint that turns further than this either way, or faster, has its limits in degrees; one that
# slides further, in millimetres.
FURTHEST = {"rad": 2 * np.pi, "m": 20.0}
FASTEST = {"rad": 30.0, "m": 20.0}
OTHER_UNIT = {"rad": ("degrees", np.pi / 180), "m": ("mm", 1e-3)}
LONGEST_DEAF = 1.0  # [s] for which a bus may fail before the robot stops
ROUNDING = 1e-3  # by which 6.2832 is more than a turn
UNMEASURED = (
    "where its joints have their zeros and which way they turn, so that it may move anywhere; "
    "measure them with `hotloop calibrate robot=...`, which writes a robot file of your own, or "
    "give robot.options.zero=[...] and robot.options.direction=[...]"
)
# Drivers of arms that can hurt somebody, and of none; what a driver of one's own moves is unknown.
SIMULATED = ("mujoco", "dry-run", "playback", "passive")
HARDWARE = (*FAMILIES, "franka")


def check_calibrated(robot: RobotConfig) -> None:
    """Refuse a robot whose zeros and directions nobody has measured.

    Raises:
        ValueError: The message says how they become known.
    """
    if not robot.calibrated:
        raise ValueError(f"robot {robot.name} is a template and does not say {UNMEASURED}")


def check_units(robot: RobotConfig) -> None:
    """Refuse limits that are hardly in rad and m.

    Raises:
        ValueError: The message says what they would be in rad or m.
    """
    limits = robot.control.limits
    for index, unit in enumerate(robot.units):
        ends = max(abs(limits.low[index]), abs(limits.high[index]))
        for name, value, largest, per in (
            ("low and high", ends, FURTHEST[unit], ""),
            ("velocity", limits.velocity[index], FASTEST[unit], "/s"),
        ):
            if value > largest + ROUNDING:
                other, factor = OTHER_UNIT[unit]
                raise ValueError(
                    f"control.limits.{name} of joint {robot.joint_name(index)} reach {value:g} "
                    f"{unit}{per}, more than {largest:.4g}: limits are in {unit}, and {value:g} "
                    f"{other}{per} would be {factor * value:.4g}; for joints that slide say "
                    "joint_units"
                )


def check_stated(robot: RobotConfig) -> str:
    """Refuse an arm whose file leaves out what nobody can guess.

    Returns:
        What to tell the operator of a robot of another driver that nobody watches; mostly empty.

    Raises:
        ValueError: If servos have no zeros and directions, or a driver of `HARDWARE` has no check
            of the joints' distance from their commands, or a dead bus is borne for too long.
    """
    control = robot.control
    measured = {"zero", "direction"} <= robot.options.keys()
    if robot.driver in FAMILIES and not (measured or robot.template):
        raise ValueError(f"robot {robot.name} does not say {UNMEASURED}")
    if (deaf := robot.bus_budget * control.dt) > LONGEST_DEAF:
        raise ValueError(
            f"bus_budget of {robot.bus_budget} cycles is {deaf:g} s at control.dt of "
            f"{control.dt:g} s, in which the robot would be without anybody; give at most "
            f"{max(int(LONGEST_DEAF / control.dt), 1)}"
        )
    if control.tracking_error or robot.driver in SIMULATED:
        return ""
    missing = (
        f"robot {robot.name} has no control.tracking_error, so that a joint that is blocked or "
        "does not follow is never noticed"
    )
    if robot.driver in HARDWARE:
        raise ValueError(f"{missing}; give the largest distance of each joint, e.g. 0.3 rad")
    return missing
