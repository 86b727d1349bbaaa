"""What a robot file says about the arm behind its joints: model, tool, what it must not touch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class PlaneConfig:
    """A plane that no moving part crosses: normal . x >= offset, in the frame of the base.

    Attributes:
        normal: Direction of the side to stay on, of any length.
        offset: Distance of the plane from the base's origin along the normal [m].
    """

    normal: Triple
    offset: float = 0.0

    def __post_init__(self) -> None:
        """Reject a plane without direction."""
        if not (np.isfinite([*self.normal, self.offset]).all() and np.linalg.norm(self.normal) > 0):
            raise ValueError(
                "a plane of kinematics.planes needs a finite normal that is not zero and a finite "
                f"offset, got normal {self.normal} and offset {self.offset}"
            )


@dataclass(frozen=True)
class GripperConfig:
    """The joint that opens and closes the gripper.

    Attributes:
        joint: Its name among the robot's joints.
        closed: Its position with the gripper closed [rad or m].
        open: Its position with the gripper open [rad or m].
    """

    joint: str
    closed: float
    open: float

    def __post_init__(self) -> None:
        """Reject a gripper that does not open."""
        if not np.isfinite([self.closed, self.open]).all() or self.closed == self.open:
            raise ValueError(
                "kinematics.gripper needs two different finite positions, got closed "
                f"{self.closed} and open {self.open}"
            )


@dataclass(frozen=True)
class KinematicsConfig:
    """The arm as a model.

    Attributes:
        model: MJCF or URDF: a file, ``"package:path/in/it"``, or a model that comes with hotloop.
        meshes: Folder of the files of its meshes, where the model does not say it, as in URDFs that
            name packages.
        tool: Site or body of the model that poses are of.
        tool_offset: From there to the tool's origin, along its axes [m].
        base: Site or body, which does not move, that poses are relative to; the model's world by
            default.
        origin: Where that is in the frame in which poses are given, e.g. on a simulator's table,
            with axes in the same directions [m].
        joints: Joint of the model behind each of the robot's joints, in their order, empty for
            none; by default the joints of the same names.
        gripper: The robot's gripper; None if none of its joints is one.
        planes: What no moving part of the arm crosses, e.g. the table.
        collisions: Which geoms of the arm keep apart: those that the model lets collide, all, or
            none.
        may_touch: Pairs of bodies that are not kept apart, e.g. because their geoms are drawn too
            large; neighbours, and geoms that touch in nearly every pose, never are.
        clearance: Distance that they, and planes, are kept at [m].
        rotation_weight: What a turn by 1 rad costs against a way of 1 m [m/rad]; 0 leaves the
            tool's rotation free; small for an arm of fewer than six joints.
        position_tolerance: Largest distance from a wanted position that is let pass [m].
        rotation_tolerance: Largest turn from a wanted rotation that is let pass [rad]; 3.15 lets
            all pass, so that the tool turns as far as it can.
        singularity: Smallest singular value of the tool's Jacobian, turns counted at 0.1 m, under
            which a wanted pose that the joints do not keep up with ends the run [m/rad].
    """

    model: str
    tool: str
    tool_offset: Triple = (0.0, 0.0, 0.0)
    base: str = ""
    origin: Triple = (0.0, 0.0, 0.0)
    joints: tuple[str, ...] = ()
    meshes: str = ""
    gripper: GripperConfig | None = None
    planes: tuple[PlaneConfig, ...] = ()
    collisions: Literal["model", "all", "none"] = "model"
    may_touch: tuple[tuple[str, str], ...] = ()
    clearance: float = 0.005
    rotation_weight: float = 0.1
    position_tolerance: float = 0.01
    rotation_tolerance: float = 0.1
    singularity: float = 0.005

    def __post_init__(self) -> None:
        """Reject names that are none and distances that no arm has."""
        for name in ("model", "tool"):
            if not getattr(self, name):
                raise ValueError(f"kinematics.{name} must be given, got an empty text")
        bounds = {
            "clearance": (0.0, 1.0),
            "rotation_weight": (0.0, 10.0),
            "position_tolerance": (1e-5, 1.0),
            "rotation_tolerance": (1e-5, 3.15),
            "singularity": (0.0, 1.0),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f"kinematics.{name} must be from {low:g} to {high:g}, got {getattr(self, name)}"
                )
        for name in ("tool_offset", "origin"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"kinematics.{name} must be finite, got {getattr(self, name)}")

    @property
    def demands_rotation(self) -> bool:
        """Whether a wanted rotation has to be reached."""
        return self.rotation_weight > 0 and self.rotation_tolerance < np.pi
