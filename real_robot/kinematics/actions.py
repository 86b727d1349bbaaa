"""What the numbers of a checkpoint mean that moves a tool: stated, never guessed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

# Numbers that each part of an action or an observation takes.
ROTATIONS = {
    "axis-angle": 3,
    "roll-pitch-yaw": 3,
    "6d-rows": 6,
    "6d-columns": 6,
    "quaternion-xyzw": 4,
    "quaternion-wxyz": 4,
}
AXES = ("x", "y", "z")
ACTION_PARTS = {"position": 3, **dict.fromkeys(AXES, 1), **ROTATIONS, "gripper": 1, "unused": 1}
# A robot has as many joints as it has.
READ_PARTS = {"position": 3, **ROTATIONS, "joints": 0, "gripper": 1, "panda-fingers": 2}


def layout_size(layout: tuple[str, ...], parts: dict[str, int]) -> int:
    """How many numbers a layout takes."""
    return sum(parts[part] for part in layout)


@dataclass(frozen=True)
class ActionsConfig:
    """What one action is.

    Attributes:
        kind: ``"pose"``, where the tool is to be at the end of the control step; ``"delta"``, how
            far it moves in the step; ``"twist"``, how fast [m/s, rad/s].
        frame: Whose axes deltas and twists are along: those of the robot's base, or the tool's own.
            A turn is about the tool's origin in both. Poses are in the base's.
        layout: Parts of an action in their order: ``position`` or single ``x``, ``y``, ``z``; a
            rotation: ``axis-angle``, ``roll-pitch-yaw`` (about the base's axes, in this order),
            ``6d-rows`` (two rows of the matrix, as PyTorch3D and diffusion_policy have them),
            ``6d-columns`` (the first column, then the second, as in the code of arXiv 1812.07035),
            ``quaternion-xyzw`` or ``quaternion-wxyz``; ``gripper``; ``unused`` for a number that
            nothing follows. What is not in it stays as it was when the episode began.
        names: Names of the checkpoint's actions, which must then be its own; any by default.
        reference: What a delta starts from: where the tool was ``"measured"``, or the ``"target"``
            of the step before.
        position_scale: Metres per unit of the checkpoint (and per second for twists).
        rotation_scale: Radians per unit of axis-angle and roll-pitch-yaw.
        gripper: The checkpoint's numbers for closed and for open.
        reads: Parts of each observation of the robot itself, by name without ``observation.``, in
            the units of poses: as above, without single axes, with ``joints`` [rad or m] and
            robosuite's ``panda-fingers``.
    """

    kind: Literal["pose", "delta", "twist"]
    frame: Literal["base", "tool"]
    layout: tuple[str, ...]
    names: tuple[str, ...] = ()
    reference: Literal["measured", "target"] = "target"
    position_scale: float = 1.0
    rotation_scale: float = 1.0
    gripper: tuple[float, float] = (0.0, 1.0)
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def __post_init__(self) -> None:
        """Reject what has no meaning."""
        _check_layout("actions.layout", self.layout, ACTION_PARTS)
        for name, layout in self.reads.items():
            _check_layout(f"actions.reads.{name}", layout, READ_PARTS)
        if self.kind == "pose" and self.frame != "base":
            raise ValueError("actions.frame of kind pose must be base, the frame of poses")
        if self.kind == "twist" and self.rotation not in ("", "axis-angle"):
            raise ValueError(
                f"the turn of a twist is an axis-angle per second, got {self.rotation} in "
                "actions.layout"
            )
        for name in ("position_scale", "rotation_scale"):
            if not (getattr(self, name) != 0 and np.isfinite(getattr(self, name))):
                raise ValueError(
                    f"actions.{name} must be finite and not 0, got {getattr(self, name)}"
                )
        if self.gripper[0] == self.gripper[1] or not np.isfinite(self.gripper).all():
            raise ValueError(
                f"actions.gripper needs two different numbers, closed and open, got {self.gripper}"
            )

    @property
    def size(self) -> int:
        """Numbers per action D."""
        return layout_size(self.layout, ACTION_PARTS)

    @property
    def rotation(self) -> str:
        """How the layout writes a rotation, empty if it has none."""
        return next((part for part in self.layout if part in ROTATIONS), "")


def _check_layout(key: str, layout: tuple[str, ...], parts: dict[str, int]) -> None:
    """Raise ValueError for parts that do not exist or are there twice."""
    if unknown := [part for part in layout if part not in parts]:
        raise ValueError(f"{key}: there is no part {unknown[0]!r}; choose from {', '.join(parts)}")
    once = [part for part in layout if part != "unused"]
    twice = len(set(once)) < len(once)
    rotations = [part for part in once if part in ROTATIONS]
    if twice or len(rotations) > 1 or ({*AXES} & {*once} and "position" in once):
        raise ValueError(f"{key} must hold each part once, one rotation at most, got {layout}")
    if not once:
        raise ValueError(f"{key} must hold something, got {layout}")
