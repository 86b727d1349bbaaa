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

    A policy may plan fewer joints than the robot has: the others hold their place.

    Attributes:
        order: Joint of the robot that each of the policy's D values is for, shape (D,).
        scale: Robot's units per policy's unit, for each of the robot's joints, shape (J,).
        offset: Robot's position at the policy's 0, for each of its joints, shape (J,).
    """

    order: NDArray[np.int64]
    scale: Vector
    offset: Vector

    @property
    def held(self) -> list[int]:
        """Joints that the policy does not plan, mostly none."""
        return sorted({*range(len(self.scale))} - {*self.order.tolist()})

    def to_policy(self, positions: Vector) -> Vector:
        """The policy's values, shape (..., D), of robot positions, shape (..., J)."""
        return ((positions - self.offset) / self.scale)[..., self.order]

    def all_to_policy(self, positions: Vector) -> Vector:
        """Robot positions of all joints in the policy's unit, both of shape (..., J)."""
        return (positions - self.offset) / self.scale

    def to_robot(self, values: Vector, held: Vector) -> Vector:
        """Robot positions, shape (..., J), of the policy's values, shape (..., D).

        Args:
            values: What the policy plans.
            held: Where the joints stay that it does not plan [rad or m], shape (J,).
        """
        positions = np.empty((*values.shape[:-1], len(held)))
        positions[:] = held
        positions[..., self.order] = self.scale[self.order] * values + self.offset[self.order]
        return positions


def map_joints(
    spec: ActionSpec, robot: RobotConfig, units: UnitsConfig, num_read: int | None = None
) -> JointMap:
    """Match a policy's actions with a robot's joints.

    Fewer actions than joints are accepted if they name joints of the robot, or are numbered and
    the policy reads the positions of all joints: then the numbers are those of its recordings.

    Args:
        spec: The policy's actions are joint positions.
        robot: The robot.
        units: The policy's unit of joint positions.
        num_read: Joint positions that the policy reads, None for none.

    Raises:
        ValueError: If numbers, names or units do not fit each other.
    """
    num_joints = robot.control.limits.num_joints
    scale = _per_joint("scale", units.scale, 1.0, num_joints)
    if not scale.all():
        raise ValueError(f"units.scale must not be 0, got {units.scale}")
    offset = _per_joint("offset", units.offset, 0.0, num_joints)
    found = JointMap(_order(spec, robot, num_read), scale, offset)
    if not (units.scale or units.offset):
        _check_units(spec, robot, found)
    return found


def _per_joint(name: str, given: tuple[float, ...], default: float, num_joints: int) -> Vector:
    """One value per joint, shape (D,), from none, one, or as many."""
    values = np.asarray(given or [default], np.float64)
    if len(values) not in (1, num_joints) or not np.isfinite(values).all():
        raise ValueError(f"units.{name} needs one number or {num_joints}, got {given}")
    return np.broadcast_to(values, (num_joints,))


def _order(spec: ActionSpec, robot: RobotConfig, num_read: int | None) -> NDArray[np.int64]:
    """Joint of the robot that each action is for, by name; by number where there are no names."""
    num_joints = robot.control.limits.num_joints
    theirs = [plain_name(name) for name in spec.names]
    ours = [plain_name(name) for name in robot.joints]
    numbered = all(GENERIC.fullmatch(name) for name in theirs)
    if spec.size == num_joints and (numbered or not ours):
        return np.arange(num_joints)
    if numbered and num_read == num_joints:
        numbers = [int(re.sub(r"\D", "", name)) for name in theirs]
        if len(set(numbers)) == len(numbers) and max(numbers) < num_joints:
            return np.array(numbers)
    if spec.size > num_joints or numbered or not ours:
        raise ValueError(
            f"the checkpoint plans {spec.size} values {spec.names}, robot {robot.name} has "
            f"{num_joints} joints {robot.joints}"
        )
    if not set(theirs) <= set(ours) or len(set(theirs)) < len(theirs):
        raise ValueError(
            f"the checkpoint's actions are {spec.names}, the joints of robot {robot.name} are "
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
