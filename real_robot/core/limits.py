"""What a command may never exceed: joint limits, and a workspace for the tool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import cos, sin
from operator import mul
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
# Numbers per joint where arrays would be slower.
Floats = list[float]


class Motion(NamedTuple):
    """Position, velocity and acceleration of all joints, each of shape (D,)."""

    position: Vector
    velocity: Vector
    acceleration: Vector

    @classmethod
    def at_rest(cls, position: Vector) -> Motion:
        """Standing still at `position`."""
        return cls(np.array(position), np.zeros_like(position), np.zeros_like(position))

    @property
    def resting(self) -> bool:
        """Whether all joints stand still."""
        return not (self.velocity.any() or self.acceleration.any())


class PlainMotion(NamedTuple):
    """A `Motion` as plain floats: on so few numbers several times faster than arrays."""

    position: Floats
    velocity: Floats
    acceleration: Floats

    @classmethod
    def at_rest(cls, position: Sequence[float]) -> PlainMotion:
        """Standing still at `position`."""
        return cls(list(position), [0.0] * len(position), [0.0] * len(position))

    @property
    def resting(self) -> bool:
        """Whether all joints stand still."""
        return not (any(self.velocity) or any(self.acceleration))

    def arrays(self) -> Motion:
        """The same as arrays."""
        return Motion(*map(np.array, self))


@dataclass(frozen=True)
class Limits:
    """Limits of each joint; a robot's configuration has to give all of them.

    Attributes:
        low: Smallest position per joint [rad or m].
        high: Largest position per joint [rad or m].
        velocity: Largest speed per joint [rad/s or m/s].
        acceleration: Largest acceleration per joint, either way [rad/s2 or m/s2].
        jerk: Largest jerk per joint, either way [rad/s3 or m/s3].
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    velocity: tuple[float, ...]
    acceleration: tuple[float, ...]
    jerk: tuple[float, ...]

    def __post_init__(self) -> None:
        """Reject limits that do not limit."""
        sizes = {name: len(getattr(self, name)) for name in self.__dataclass_fields__}
        if len(set(sizes.values())) != 1 or not self.low:
            raise ValueError(f"limits need one value per joint, at least one joint; got {sizes}")
        if not np.isfinite([*self.low, *self.high]).all() or not np.less(self.low, self.high).all():
            raise ValueError(
                f"limits.low must be finite and below limits.high, got {self.low} and {self.high}"
            )
        for name in ("velocity", "acceleration", "jerk"):
            values = np.asarray(getattr(self, name))
            if not ((values > 0) & np.isfinite(values)).all():
                raise ValueError(f"limits.{name} must be positive and finite, got {values}")

    @property
    def num_joints(self) -> int:
        """Number of joints D."""
        return len(self.low)

    @cached_property
    def arrays(self) -> LimitArrays:
        """The same numbers as arrays of shape (D,), which cannot be written to."""
        arrays = [np.array(getattr(self, name), np.float64) for name in LimitArrays._fields]
        for array in arrays:
            array.setflags(write=False)
        return LimitArrays(*arrays)


class LimitArrays(NamedTuple):
    """`Limits` as arrays of shape (D,)."""

    low: Vector
    high: Vector
    velocity: Vector
    acceleration: Vector
    jerk: Vector


@dataclass(frozen=True)
class Chain:
    """Serial kinematics: where the tool is.

    Attributes:
        offsets: From the previous joint to each joint, in the previous joint's frame [m].
        axes: Unit axis of each joint in its own frame.
        tool: From the last joint to the tool, in the last joint's frame [m].
        prismatic: Which joints slide instead of turn; none by default.
    """

    offsets: tuple[tuple[float, float, float], ...]
    axes: tuple[tuple[float, float, float], ...]
    tool: tuple[float, float, float]
    prismatic: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        """Reject a chain whose parts do not match."""
        if len(self.offsets) != len(self.axes) or len(self.prismatic) not in (0, len(self.axes)):
            raise ValueError(
                f"a chain needs an offset and an axis per joint, got {len(self.offsets)} offsets, "
                f"{len(self.axes)} axes and {len(self.prismatic)} prismatic flags"
            )
        if not np.isfinite([*np.ravel(self.offsets), *self.tool]).all():
            raise ValueError(
                f"offsets and tool of a chain must be finite, got {self.offsets} and {self.tool}"
            )
        if not np.allclose(np.linalg.norm(self.axes, axis=1), 1):
            raise ValueError(f"axes of a chain must have length 1, got {self.axes}")

    @cached_property
    def reach(self) -> Vector:
        """How far the tool moves at most per unit of each joint, shape (D,) [m/rad or 1]."""
        lengths = np.linalg.norm([*self.offsets[1:], self.tool], axis=1)
        turning = np.cumsum(lengths[::-1])[::-1]
        return np.where(self.prismatic or (False,) * len(self.axes), 1.0, turning)

    @cached_property
    def _turns(self) -> list[tuple[Vector, Vector]]:
        """Transposed cross-product matrix of each axis, and its square."""
        turns: list[tuple[Vector, Vector]] = []
        for x, y, z in self.axes:
            cross: Vector = np.array([[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]])
            turns.append((cross, cross @ cross))
        return turns

    def tool_position(self, position: Vector) -> Vector:
        """Tool position [m], shape (K, 3), of joint positions of shape (K, D)."""
        point = np.tile(self.tool, (len(position), 1))
        sliding = self.prismatic or (False,) * len(self.axes)
        sine, versine = np.sin(position), 1 - np.cos(position)
        for joint in reversed(range(len(self.axes))):
            if sliding[joint]:
                point = point + position[:, joint, None] * self.axes[joint]
            else:
                # Rodrigues' formula.
                once, twice = self._turns[joint]
                turned = sine[:, joint, None] * (point @ once)
                point = point + turned + versine[:, joint, None] * (point @ twice)
            point = point + self.offsets[joint]
        return point

    @cached_property
    def _links(self) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[bool, ...]]:
        """Offsets and axes of the joints, and which of them slide, from the last joint on."""
        sliding = self.prismatic or (False,) * len(self.axes)
        return self.offsets[::-1], self.axes[::-1], sliding[::-1]

    def tool_at(self, position: Sequence[float]) -> tuple[float, float, float]:
        """Tool position [m] for one set of joint positions, in plain floats."""
        x, y, z = self.tool
        for (dx, dy, dz), (a, b, c), slides, value in zip(
            *self._links, reversed(position), strict=True
        ):
            if slides:
                x, y, z = x + value * a, y + value * b, z + value * c
            else:
                # Rodrigues' formula; u is the axis times the point, w the axis times u.
                sine, versine = sin(value), 1 - cos(value)
                ux, uy, uz = b * z - c * y, c * x - a * z, a * y - b * x
                wx, wy, wz = b * uz - c * uy, c * ux - a * uz, a * uy - b * ux
                x += sine * ux + versine * wx
                y += sine * uy + versine * wy
                z += sine * uz + versine * wz
            x, y, z = x + dx, y + dy, z + dz
        return x, y, z


@dataclass(frozen=True)
class Workspace:
    """A box that the tool may not leave; ``None`` leaves a side open.

    Attributes:
        chain: The robot's kinematics.
        low: Smallest x, y, z of the tool [m].
        high: Largest x, y, z of the tool [m].
    """

    chain: Chain
    low: tuple[float | None, float | None, float | None]
    high: tuple[float | None, float | None, float | None]

    def __post_init__(self) -> None:
        """Reject an empty box."""
        low, high = self._bounds
        if not (low < high).all():
            raise ValueError(f"workspace low {self.low} must be below high {self.high}")

    @cached_property
    def _bounds(self) -> tuple[Vector, Vector]:
        low = [-np.inf if value is None else value for value in self.low]
        high = [np.inf if value is None else value for value in self.high]
        return np.asarray(low, np.float64), np.asarray(high, np.float64)

    @cached_property
    def _sides(self) -> tuple[Floats, Floats]:
        low, high = self._bounds
        return low.tolist(), high.tolist()

    @cached_property
    def _reach(self) -> Floats:
        return self.chain.reach.tolist()

    def clearance(self, position: Vector) -> Vector:
        """Distance of the tool from the nearest side [m], negative outside; (K, D) to (K,)."""
        point, (low, high) = self.chain.tool_position(position), self._bounds
        return np.minimum(point - low, high - point).min(axis=1)

    def clearance_at(self, position: Sequence[float]) -> float:
        """`clearance` of one set of joint positions, in plain floats."""
        x, y, z = self.chain.tool_at(position)
        (left, front, bottom), (right, back, top) = self._sides
        return min(x - left, y - front, z - bottom, right - x, back - y, top - z)

    def farthest(self, joint_path: Sequence[float]) -> float:
        """`path_length` of one way of the joints, in plain floats."""
        return sum(map(mul, joint_path, self._reach))

    def path_length(self, joint_path: Vector) -> Vector:
        """Longest way of the tool [m], shape (K,), for ways of the joints of shape (K, D)."""
        return joint_path @ self.chain.reach
