"""From the numbers of an action to a pose of the tool and the gripper's joint, and back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.limits import Vector
from ..kinematics.actions import (
    ACTION_PARTS,
    AXES,
    READ_PARTS,
    ROTATIONS,
    ActionsConfig,
    layout_size,
)
from ..kinematics.arm import Arm
from ..kinematics.pose import Pose, rotation_matrix, rotation_numbers
from .protocol import Snapshot

PANDA_FINGER = 0.04  # Way of one finger of a Panda's gripper [m].


class ToolActions:
    """What a checkpoint's actions ask of the tool.

    Args:
        config: What each number means.
        arm: The arm, for its gripper.
        dt: Control period [s].

    Raises:
        ValueError: If the layout has a gripper and the robot has none.
    """

    def __init__(self, config: ActionsConfig, arm: Arm, dt: float) -> None:
        self.config, self._arm = config, arm
        self._share = dt if config.kind == "twist" else 1.0
        self._slices: dict[str, slice] = {}
        begin = 0
        for part in config.layout:
            self._slices[part] = slice(begin, begin + ACTION_PARTS[part])
            begin += ACTION_PARTS[part]
        self._check_gripper()

    def _check_gripper(self) -> None:
        layouts = {"layout": self.config.layout, **self.config.reads}
        for name, layout in layouts.items():
            if self._arm.gripper < 0 and {"gripper", "panda-fingers"} & {*layout}:
                key = name if name == "layout" else f"reads.{name}"
                raise ValueError(
                    f"actions.{key} has a gripper, the robot none; give "
                    "robot.kinematics.gripper={joint: ..., closed: ..., open: ...}, or write "
                    "unused for the number of an action"
                )

    def target(self, action: Vector, reference: Pose, held: Pose) -> Pose:
        """The tool's pose in the base that an action, shape (D,), asks for.

        Args:
            action: In the checkpoint's numbers.
            reference: What deltas and twists start from.
            held: What the pose has of what the layout does not say.
        """
        config = self.config
        if config.kind == "pose":
            position = self._position(action, held.position)
            return Pose(position, self._rotation(action) if config.rotation else held.rotation)
        way = self._share * self._position(action, np.zeros(3))
        turn = self._rotation(action) if config.rotation else np.eye(3)
        return reference.moved(way, turn, config.frame == "tool")

    def gripper(self, action: Vector) -> float | None:
        """Where the gripper's joint is to be [rad or m], None if the layout has none."""
        if "gripper" not in self._slices:
            return None
        closed, opened = self.config.gripper
        value = float(action[self._slices["gripper"]][0])
        share = min(max((value - closed) / (opened - closed), 0.0), 1.0)
        gripper = self._arm.config.gripper
        assert gripper is not None
        return gripper.closed + share * (gripper.open - gripper.closed)

    def _position(self, action: Vector, rest: Vector) -> Vector:
        if "position" in self._slices:
            return self.config.position_scale * action[self._slices["position"]]
        found = np.array(rest)
        for axis, name in enumerate(AXES):
            if name in self._slices:
                found[axis] = self.config.position_scale * action[self._slices[name]][0]
        return found

    def _rotation(self, action: Vector) -> Vector:
        kind = self.config.rotation
        numbers = action[self._slices[kind]]
        if ROTATIONS[kind] == 3:
            numbers = self._share * self.config.rotation_scale * numbers
        return rotation_matrix(kind, numbers)

    def reader(self, key: str, shape: tuple[int, ...]) -> Callable[[Snapshot], np.ndarray]:
        """How an observation that holds the tool's pose is read.

        Args:
            key: Name without ``observation.``, one of the config's `reads`.
            shape: What the checkpoint reads.

        Raises:
            ValueError: If it is of another size.
        """
        layout = self.config.reads[key]
        size = layout_size(layout, {**READ_PARTS, "joints": self._arm.num_joints})
        if shape != (size,):
            raise ValueError(
                f"actions.reads.{key} is {size} numbers, {', '.join(layout)}; the checkpoint reads "
                f"shape {shape}"
            )
        return lambda snapshot: self.read(layout, snapshot.position)

    def read(self, layout: tuple[str, ...], joints: Vector) -> np.ndarray:
        """The numbers of a layout with the joints at some positions, shape (J,), as float32."""
        pose = self._arm.tool_pose(joints)
        parts = [self._read_part(part, pose, joints) for part in layout]
        return np.concatenate(parts).astype(np.float32)

    def _read_part(self, part: str, pose: Pose, joints: Vector) -> Vector:
        if part == "joints":
            return joints
        if part == "position":
            return pose.position / self._read_scale("position")
        if part in ROTATIONS:
            scale = self._read_scale("rotation") if ROTATIONS[part] == 3 else 1.0
            return rotation_numbers(part, pose.rotation) / scale
        gripper = self._arm.config.gripper
        assert gripper is not None
        share = (joints[self._arm.gripper] - gripper.closed) / (gripper.open - gripper.closed)
        if part == "panda-fingers":
            return PANDA_FINGER * share * np.array([1.0, -1.0])
        closed, opened = self.config.gripper
        return np.array([closed + share * (opened - closed)])

    def _read_scale(self, name: str) -> float:
        """A pose is read in the units of planned ones; deltas have units of their own."""
        return getattr(self.config, f"{name}_scale") if self.config.kind == "pose" else 1.0
