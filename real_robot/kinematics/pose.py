"""Poses of a tool, and the ways to write a rotation."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ..core.limits import Vector

SHORTEST = 1e-3  # of a vector that still has a direction


class Pose(NamedTuple):
    """Where a frame is in another.

    Attributes:
        position: Its origin [m], shape (3,).
        rotation: Its axes as columns, shape (3, 3).
    """

    position: Vector
    rotation: Vector

    def moved(self, way: Vector, turn: Vector, in_own_axes: bool) -> Pose:
        """The pose after a way [m] and a turn about the frame's own origin.

        Args:
            way: Shape (3,).
            turn: Rotation matrix, shape (3, 3).
            in_own_axes: Whether way and turn are along the frame's own axes instead of its base's.
        """
        if in_own_axes:
            return Pose(self.position + self.rotation @ way, self.rotation @ turn)
        return Pose(self.position + way, turn @ self.rotation)

    def within(self, base: Pose) -> Pose:
        """The pose relative to `base`, which is given in the same frame as this one."""
        inverse = np.transpose(base.rotation)
        return Pose(inverse @ (self.position - base.position), inverse @ self.rotation)

    def out_of(self, base: Pose) -> Pose:
        """The pose, given relative to `base`, in the frame in which `base` is given."""
        return Pose(base.position + base.rotation @ self.position, base.rotation @ self.rotation)

    def rotation_to(self, other: Pose) -> Vector:
        """The turn about the base's axes that leads to `other`, as axis-angle, shape (3,)."""
        return rotation_numbers("axis-angle", other.rotation @ np.transpose(self.rotation))

    def distances(self, other: Pose) -> tuple[float, float]:
        """Way [m] and turn [rad] from here to `other`."""
        way = float(np.linalg.norm(self.position - other.position))
        turn: Vector = np.transpose(self.rotation) @ other.rotation
        # Exact for small turns too, of which the cosine alone says little.
        skew = turn - np.transpose(turn)
        twice_sine = math.sqrt(skew[0, 1] ** 2 + skew[0, 2] ** 2 + skew[1, 2] ** 2)
        return way, math.atan2(twice_sine, turn[0, 0] + turn[1, 1] + turn[2, 2] - 1)


def rotation_matrix(kind: str, numbers: Vector) -> Vector:
    """Rotation matrix, shape (3, 3), of a rotation written as `kind`; see `ActionsConfig.layout`.

    Six numbers of a network are no two unit vectors at a right angle: the nearest such are taken by
    Gram and Schmidt (arXiv 1812.07035, B); four numbers are scaled to length 1.

    Raises:
        ValueError: If the numbers are so near to 0 or to each other that they give no rotation.
    """
    if kind.startswith("6d"):
        axes = _right_angled(numbers[:3], numbers[3:])
        return axes if kind == "6d-rows" else np.transpose(axes)
    rotation = _scipy_rotation()
    if kind == "axis-angle":
        return rotation.from_rotvec(numbers).as_matrix()
    if kind == "roll-pitch-yaw":
        return rotation.from_euler("xyz", numbers).as_matrix()
    if not np.linalg.norm(numbers) > SHORTEST:
        raise ValueError(f"the quaternion {numbers} gives no rotation")
    return rotation.from_quat(numbers, scalar_first=kind == "quaternion-wxyz").as_matrix()


def rotation_numbers(kind: str, rotation: Vector) -> Vector:
    """Inverse of `rotation_matrix`.

    Quaternions have a scalar part of at least 0, axis-angles at most half a turn.
    """
    if kind == "6d-rows":
        return rotation[:2].ravel()
    if kind == "6d-columns":
        return np.concatenate([rotation[:, 0], rotation[:, 1]])
    made = _scipy_rotation().from_matrix(rotation)
    if kind == "axis-angle":
        return made.as_rotvec()
    if kind == "roll-pitch-yaw":
        return made.as_euler("xyz")
    return made.as_quat(canonical=True, scalar_first=kind == "quaternion-wxyz")


def _right_angled(first: Vector, second: Vector) -> Vector:
    """Three unit vectors at right angles as rows, shape (3, 3), from two vectors."""
    lengths = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    if min(lengths) > SHORTEST:
        one = first / lengths[0]
        other = second - (one @ second) * one
        length = float(np.linalg.norm(other))
        if length > SHORTEST * lengths[1]:
            return np.stack([one, other / length, np.cross(one, other / length)])
    raise ValueError(f"the six numbers {first} and {second} give no rotation")


def _scipy_rotation() -> Any:
    """SciPy's rotations, which only the policy process needs and which take a while to import."""
    return import_module("scipy.spatial.transform").Rotation  # which has no stubs
