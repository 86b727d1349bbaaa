"""Which of a policy's numbers is which joint of a robot, and in which unit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..decoding import ActionSpec

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

    order: np.ndarray
    scale: np.ndarray
    offset: np.ndarray

    def to_policy(self, positions: np.ndarray) -> np.ndarray:
        """The policy's values of robot positions, both of shape (..., D)."""
        return ((positions - self.offset) / self.scale)[..., self.order]

    def to_robot(self, values: np.ndarray) -> np.ndarray:
        """Robot positions of the policy's values, both of shape (..., D)."""
        sorted_values = values[..., np.argsort(self.order)]
        return self.scale * sorted_values + self.offset


def map_joints(spec: ActionSpec, robot: Any, units: Mapping[str, Any]) -> JointMap:
    """Match a policy's actions with a robot's joints.

    Args:
        spec: The policy's actions are joint positions.
        robot: Has ``name``, ``joints``, maybe none, and ``control.limits``.
        units: ``scale`` and ``offset``, each empty, one number, or one per joint of the robot.

    Raises:
        ValueError: If numbers, names or units do not fit each other.
    """
    limits = robot.control.limits.arrays
    num_joints = len(limits.low)
    if spec.size != num_joints:
        raise ValueError(
            f"the checkpoint plans {spec.size} values {spec.names}, robot {robot.name} has "
            f"{num_joints} joints {tuple(robot.joints)}"
        )
    given = any(len(units[name]) for name in ("scale", "offset"))
    vectors: dict[str, np.ndarray] = {}
    for name, default in (("scale", 1.0), ("offset", 0.0)):
        values = np.asarray(units[name] or [default], np.float64)
        if len(values) not in (1, num_joints) or not np.isfinite(values).all():
            raise ValueError(f"units.{name} needs one number or {num_joints}, got {units[name]}")
        vectors[name] = np.broadcast_to(values, num_joints)
    if not vectors["scale"].all():
        raise ValueError(f"units.scale must not be 0, got {units['scale']}")
    found = JointMap(_order(spec.names, robot), vectors["scale"], vectors["offset"])
    if not given:
        _check_units(spec, limits, found.order)
    return found


def _order(names: tuple[str, ...], robot: Any) -> np.ndarray:
    """Joint of the robot that each name is for; by position where there are no names."""
    theirs, ours = [_plain(name) for name in names], [_plain(name) for name in robot.joints]
    if not ours or all(GENERIC.fullmatch(name) for name in theirs):
        return np.arange(len(names))
    if sorted(theirs) != sorted(ours):
        raise ValueError(
            f"the checkpoint's actions are {names}, the joints of robot {robot.name} are "
            f"{tuple(robot.joints)}; if they are the same, say so with robot.joints=[...]"
        )
    return np.array([ours.index(name) for name in theirs])


def _plain(name: str) -> str:
    """A joint's name without unit, LeRobot's ending, and ways of writing it."""
    name = re.sub(r"\s*\[.*\]$", "", name.strip().lower())
    return re.sub(r"[_.-]+", " ", re.sub(r"\.(pos|position)$", "", name))


def _check_units(spec: ActionSpec, limits: Any, order: np.ndarray) -> None:
    """Raise ValueError if actions are in other units than a robot's joints, as far as can be told.

    A robot's joints are in radians or metres.
    """
    advice = "units.scale=[...] and units.offset=[...] turn them into rad or m"
    for name in spec.names:
        unit = re.search(r"\[(.*)\]$", name)
        if unit and unit[1] not in ROBOT_UNITS:
            raise ValueError(f"the checkpoint's {name!r} is in {unit[1]}; {advice}")
    widths = np.subtract(spec.high, spec.low) / (limits.high - limits.low)[order]
    if (widths > IMPLAUSIBLE).any():
        index = int(np.argmax(widths))
        raise ValueError(
            f"the checkpoint's {spec.names[index]!r} goes from {spec.low[index]} to "
            f"{spec.high[index]}, {widths[index]:.0f} times the range of the robot's joint, and "
            f"is hardly in the same unit; {advice}"
        )
