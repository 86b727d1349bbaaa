"""Which of a policy's numbers is which joint of a robot, and in which unit."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...decoding import ActionSpec
from ..config import RobotConfig, UnitsConfig, plain_name
from ..core.limits import Vector

ROBOT_UNITS = ("rad", "m")
# Names that say nothing but a number.
GENERIC = re.compile(r"((action|joint|motor|dim|dimension)s? ?)?\d+")
# Targets that spread over so many times a joint's range are in another unit.
IMPLAUSIBLE = 10


@dataclass(frozen=True, eq=False)
class JointMap:
    """From a policy's joint values to a robot's positions and back.

    Attributes:
        order: Joint of the robot that each of the policy's values is for, shape (D,).
        scale: Robot's units per policy's unit, for each of the robot's joints, shape (D,).
        offset: Robot's position at the policy's 0, for each of its joints, shape (D,).
    """

    order: NDArray[np.int64]
    scale: Vector
    offset: Vector

    def to_policy(self, positions: Vector) -> Vector:
        """The policy's values of robot positions, both of shape (..., D)."""
        return ((positions - self.offset) / self.scale)[..., self.order]

    def to_robot(self, values: Vector) -> Vector:
        """Robot positions of the policy's values, both of shape (..., D)."""
        sorted_values = values[..., np.argsort(self.order)]
        return self.scale * sorted_values + self.offset


def map_joints(spec: ActionSpec, robot: RobotConfig, units: UnitsConfig) -> JointMap:
    """Match a policy's actions with a robot's joints.

    Args:
        spec: The policy's actions are joint positions.
        robot: The robot.
        units: The policy's unit of joint positions.

    Raises:
        ValueError: If numbers, names or units do not fit each other.
    """
    num_joints = robot.control.limits.num_joints
    if spec.size != num_joints:
        raise ValueError(
            f"the checkpoint plans {spec.size} values {spec.names}, robot {robot.name} has "
            f"{num_joints} joints {robot.joints}"
        )
    scale = _per_joint("scale", units.scale, 1.0, num_joints)
    if not scale.all():
        raise ValueError(f"units.scale must not be 0, got {units.scale}")
    offset = _per_joint("offset", units.offset, 0.0, num_joints)
    found = JointMap(_order(spec.names, robot), scale, offset)
    if not (units.scale or units.offset):
        _check_units(spec, robot, found)
    return found


def _per_joint(name: str, given: tuple[float, ...], default: float, num_joints: int) -> Vector:
    """One value per joint, shape (D,), from none, one, or as many."""
    values = np.asarray(given or [default], np.float64)
    if len(values) not in (1, num_joints) or not np.isfinite(values).all():
        raise ValueError(f"units.{name} needs one number or {num_joints}, got {given}")
    return np.broadcast_to(values, (num_joints,))


def _order(names: tuple[str, ...], robot: RobotConfig) -> NDArray[np.int64]:
    """Joint of the robot that each name is for; by position where there are no names."""
    theirs, ours = [plain_name(name) for name in names], [plain_name(name) for name in robot.joints]
    if not ours or all(GENERIC.fullmatch(name) for name in theirs):
        return np.arange(len(names))
    if sorted(theirs) != sorted(ours):
        raise ValueError(
            f"the checkpoint's actions are {names}, the joints of robot {robot.name} are "
            f"{robot.joints}; if they are the same, say so with robot.joints=[...]"
        )
    return np.array([ours.index(name) for name in theirs])


def _check_units(spec: ActionSpec, robot: RobotConfig, joints: JointMap) -> None:
    """Raise ValueError if actions are in other units than a robot's joints, as far as can be told.

    A robot's joints are in radians or metres.
    """
    advice = "units.scale=[...] and units.offset=[...] turn them into rad or m"
    for name in spec.names:
        unit = re.search(r"\[(.*)\]$", name)
        if unit and unit[1] not in ROBOT_UNITS:
            raise ValueError(f"the checkpoint's {name!r} is in {unit[1]}; {advice}")
    limits = robot.control.limits.arrays
    widths = np.subtract(spec.high, spec.low) / (limits.high - limits.low)[joints.order]
    if (widths > IMPLAUSIBLE).any():
        index = int(np.argmax(widths))
        raise ValueError(
            f"the checkpoint's {spec.names[index]!r} goes from {spec.low[index]} to "
            f"{spec.high[index]}, {widths[index]:.0f} times the range of the robot's joint, and "
            f"is hardly in the same unit; {advice}"
        )
