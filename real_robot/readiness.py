"""Whether a robot's configuration says what it must say before anything may move."""

from __future__ import annotations

import numpy as np

from .config import RobotConfig
from .drivers.servo_options import FAMILIES

# A joint that turns further than this either way, or faster, has its limits in degrees; one that
# slides further, in millimetres.
FURTHEST = {"rad": 2 * np.pi, "m": 20.0}
FASTEST = {"rad": 30.0, "m": 20.0}
QUICKEST = {"rad": 1e3, "m": 500.0}  # acceleration; beyond this and the next nothing is limited
SHARPEST = {"rad": 1e5, "m": 1e5}  # jerk
LONGEST_BRAKE = 20.0  # [s] from full speed to rest; slow limits are a way to try an arm out
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
            ("acceleration", limits.acceleration[index], QUICKEST[unit], "/s2"),
            ("jerk", limits.jerk[index], SHARPEST[unit], "/s3"),
        ):
            if value > largest + ROUNDING:
                other, factor = OTHER_UNIT[unit]
                raise ValueError(
                    f"control.limits.{name} of joint {robot.joint_name(index)} reach {value:g} "
                    f"{unit}{per}, more than {largest:.4g}: limits are in {unit}, and {value:g} "
                    f"{other}{per} would be {factor * value:.4g}; for joints that slide say "
                    "joint_units"
                )


def check_effect(robot: RobotConfig) -> None:
    """Refuse limits with which a robot takes too long to stop, or goes astray unnoticed.

    Raises:
        ValueError: The message names the joint.
    """
    control = robot.control
    limits = control.limits.arrays
    speed, rise = limits.velocity, limits.acceleration / limits.jerk
    pointed = speed < limits.acceleration * rise
    brake = np.where(pointed, 2 * np.sqrt(speed / limits.jerk), speed / limits.acceleration + rise)
    ways = limits.high - limits.low
    for index in range(len(ways)):
        if brake[index] > LONGEST_BRAKE:
            raise ValueError(
                f"by control.limits, joint {robot.joint_name(index)} takes {brake[index]:.3g} s "
                f"from full speed to rest, at most {LONGEST_BRAKE:g} s are a stop; raise its "
                "acceleration and jerk, or lower its velocity"
            )
        if control.tracking_error and control.tracking_error[index] > ways[index] + ROUNDING:
            raise ValueError(
                f"control.tracking_error of joint {robot.joint_name(index)} is "
                f"{control.tracking_error[index]:g} {robot.units[index]}, further than its limits "
                f"are apart ({ways[index]:.4g}), so that nothing is ever noticed; give e.g. 0.3 rad"
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
