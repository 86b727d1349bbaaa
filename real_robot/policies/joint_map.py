"""Which of a policy's numbers is which joint of a robot, and in which unit."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...decoding import ActionSpec
from ..config import RobotConfig, UnitsConfig
from ..core.limits import Vector
from ..core.trajectory import OVERSHOOT
from ..readiness import FURTHEST, ROUNDING
from .joint_names import order_of_joints

# Targets that spread over so many times a joint's range are in another unit.
IMPLAUSIBLE = 10
# Actions that all stay within such a share of their joints' ranges are changes, or in another unit.
MINUTE = 0.02
ADVICE = "units.scale=[...] and units.offset=[...] turn it into rad or m"


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
    def planned(self) -> list[int]:
        """Joints that the policy plans, in its order."""
        return self.order.tolist()

    @property
    def held(self) -> list[int]:
        """Joints that the policy does not plan, mostly none."""
        return sorted({*range(len(self.scale))} - {*self.planned})

    def bounds(self, spec: ActionSpec) -> list[tuple[float, float]]:
        """Smallest and largest position of the joint of each of D actions [rad or m]."""
        scale, offset = self.scale[self.order], self.offset[self.order]
        ends = np.sort([scale * spec.low + offset, scale * spec.high + offset], axis=0)
        return list(zip(*ends.tolist(), strict=True))

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
        ValueError: If numbers, names, units or bounds do not fit each other.
    """
    num_joints = robot.control.limits.num_joints
    scale = _per_joint("scale", units.scale, 1.0, num_joints)
    if not scale.all():
        raise ValueError(f"units.scale must not be 0, got {units.scale}")
    offset = _per_joint("offset", units.offset, 0.0, num_joints)
    found = JointMap(order_of_joints(spec, robot, num_read), scale, offset)
    if not units.scale:
        _check_units(spec, robot, found)
    _check_bounds(spec, robot, found)
    return found


def beyond_limits(spec: ActionSpec, robot: RobotConfig, joints: JointMap) -> list[str]:
    """Actions whose largest or smallest the control loop would refuse at this robot's limits."""
    limits = robot.control.limits.arrays
    slack = OVERSHOOT * (limits.high - limits.low)
    least, most = limits.low - slack, limits.high + slack
    ways = zip(spec.names, joints.planned, joints.bounds(spec), strict=True)
    return [name for name, joint, (low, high) in ways if low < least[joint] or high > most[joint]]


def _per_joint(name: str, given: tuple[float, ...], default: float, num_joints: int) -> Vector:
    """One value per joint, shape (D,), from none, one, or as many."""
    values = np.asarray(given or [default], np.float64)
    if len(values) not in (1, num_joints) or not np.isfinite(values).all():
        raise ValueError(f"units.{name} needs one number or {num_joints}, got {given}")
    return np.broadcast_to(values, (num_joints,))


def _check_units(spec: ActionSpec, robot: RobotConfig, joints: JointMap) -> None:
    """Raise ValueError if an action's name says another unit than its joint has."""
    for name, joint in zip(spec.names, joints.planned, strict=True):
        unit = re.search(r"\[(.*)\]$", name)
        if unit and unit[1] != robot.units[joint]:
            raise ValueError(
                f"the checkpoint's {name!r} is in {unit[1]}; {ADVICE}, joint "
                f"{robot.joint_name(joint)} of robot {robot.name} is in {robot.units[joint]}"
            )


def _check_bounds(spec: ActionSpec, robot: RobotConfig, joints: JointMap) -> None:
    """Raise ValueError if actions can, by their bounds, hardly be positions of these joints."""
    limits, largest = robot.control.limits, 0.0
    for name, joint, (low, high) in zip(
        spec.names, joints.planned, joints.bounds(spec), strict=True
    ):
        unit, least, most = robot.units[joint], limits.low[joint], limits.high[joint]
        ways = (
            f"the checkpoint's {name!r} goes from {low:.4g} to {high:.4g} {unit}, joint "
            f"{robot.joint_name(joint)} of robot {robot.name} from {least:.4g} to {most:.4g}"
        )
        times = (high - low) / (most - least)
        largest = max(largest, times)
        if times > IMPLAUSIBLE:
            raise ValueError(
                f"{ways}: {times:.0f} times the range of the robot's joint, and hardly in the same "
                f"unit; {ADVICE}"
            )
        if max(abs(low), abs(high)) > FURTHEST[unit] + ROUNDING:
            raise ValueError(f"{ways}: no joint goes that far, so it is in another unit; {ADVICE}")
        if low > most or high < least:
            raise ValueError(
                f"{ways}: nothing is common to both, and every plan would be refused; it is in "
                f"another unit or from another zero; {ADVICE}"
            )
    if largest < MINUTE:
        raise ValueError(
            f"the checkpoint's actions all stay within {largest:.1%} of the ranges of robot "
            f"{robot.name}'s joints: they are changes, which are never sent as positions, or in "
            f"another unit; {ADVICE}"
        )
