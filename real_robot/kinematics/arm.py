"""The arm as a MuJoCo model: where its tool is, and how near its parts are to each other."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...decoding.plumbing.extras import require
from ..config import RobotConfig, plain_name
from ..core.limits import Vector
from .config import KinematicsConfig
from .contacts import possible_pairs
from .model import TOOL, base_pose, compile_model, joint_of
from .pose import Pose

NUM_SAMPLES = 200
ALWAYS = 0.95
FAR = 0.05  # Parts further apart than this are not looked at [m].
# Poses keep this away from joint limits, for the curve between them [rad or m].
MARGIN = 0.005
LEVER = 0.1  # Length at which turns count as ways [m/rad].


class Arm:
    """Forward kinematics of a robot.

    Positions of its joints, shape (J,), are in its own order; joints of the model that are none of
    the robot's stay where the model has them.

    Args:
        robot: Its `kinematics` say what the model is, its limits bound the joints.

    Attributes:
        model: MuJoCo's model.
        names: Names of the robot's joints.
        solved: Joints of the robot that move the tool's arm: all that the model has, but for the
            gripper's, shape (n,).
        notes: What an operator should know about the model.
        pairs: Geoms that are kept apart, as pairs of their numbers.

    Raises:
        ValueError: If the model, its frames or its joints do not fit the robot.
    """

    def __init__(self, robot: RobotConfig) -> None:
        if robot.kinematics is None:
            raise ValueError(
                f"robot {robot.name} has no kinematics, which moving its tool needs; give "
                "robot.kinematics.model=MJCF_OR_URDF and robot.kinematics.tool=SITE_OR_BODY"
            )
        self.config: KinematicsConfig = robot.kinematics
        limits = robot.control.limits.arrays
        self.names = robot.joints or tuple(map(str, range(len(limits.low))))
        self._mujoco: Any = require("mujoco", "ik")
        self.model: Any = compile_model(self.config)
        self.data: Any = self._mujoco.MjData(self.model)
        self._tool: int = self.model.site(TOOL).id
        self.num_joints = len(limits.low)
        joints = _model_joints(self.model, robot)
        self._has = np.array([joint >= 0 for joint in joints])
        known = [joint for joint in joints if joint >= 0]
        self._addresses: NDArray[np.int64] = np.array(self.model.jnt_qposadr[known], np.int64)
        self._dofs: NDArray[np.int64] = np.array(self.model.jnt_dofadr[known], np.int64)
        self.gripper = _gripper(robot)
        moving = [index for index, has in enumerate(self._has) if has and index != self.gripper]
        self.solved = np.array(moving, np.int64)
        self._check_joints(robot, known)
        self.low, self.high = _bounds(self.model, limits.low, limits.high, joints, robot)
        self.low[self.solved] += MARGIN
        self.high[self.solved] -= MARGIN
        self.base = base_pose(self.model, self.config)
        self.pairs = self._choose_pairs()
        self.notes = self._notes()
        # mink leaves out what a model would not collide; which pairs count is chosen here.
        self.model.geom_contype[:] = self.model.geom_conaffinity[:] = 1

    def _check_joints(self, robot: RobotConfig, known: list[int]) -> None:
        if not len(self.solved):
            raise ValueError(f"no joint of robot {robot.name} moves {self.config.model}")
        if len(set(known)) < len(known):
            raise ValueError(f"kinematics.joints names a joint twice: {self.config.joints}")

    @cached_property
    def dofs(self) -> NDArray[np.int64]:
        """Degree of freedom of the model behind each of the `solved` joints, shape (n,)."""
        chosen = np.isin(np.flatnonzero(self._has), self.solved)
        return self._dofs[chosen]

    @property
    def frozen(self) -> list[int]:
        """Degrees of freedom of the model that moving the tool leaves alone."""
        return sorted({*range(self.model.nv)} - {*self.dofs.tolist()})

    def qpos(self, position: Vector) -> Vector:
        """The model's coordinates for joint positions of shape (J,)."""
        found: Vector = np.array(self.model.qpos0)
        found[self._addresses] = position[self._has]
        return found

    def place(self, position: Vector) -> None:
        """Put the model's joints where the robot's are, shape (J,)."""
        self.data.qpos[:] = self.qpos(position)
        self._mujoco.mj_kinematics(self.model, self.data)
        self._mujoco.mj_comPos(self.model, self.data)

    def tool_pose(self, position: Vector) -> Pose:
        """Where the tool is in the base, with the joints at `position`, shape (J,)."""
        self.place(position)
        rotation = np.reshape(np.array(self.data.site_xmat[self._tool], np.float64), (3, 3))
        return Pose(np.array(self.data.site_xpos[self._tool]), rotation).within(self.base)

    def smallest_singular_value(self, position: Vector, with_turns: bool = True) -> float:
        """How far the tool moves at least per unit of the joints, in its stiffest direction.

        Args:
            position: Shape (J,).
            with_turns: Whether turns count, at `LEVER`.
        """
        self.place(position)
        ways, turns = np.zeros((3, self.model.nv)), np.zeros((3, self.model.nv))
        self._mujoco.mj_jacSite(self.model, self.data, ways, turns, self._tool)
        rows = np.vstack([ways, LEVER * turns]) if with_turns else ways
        return float(np.linalg.svd(rows[:, self.dofs], compute_uv=False).min())

    def distance(self, position: Vector) -> tuple[float, str]:
        """Smallest distance of parts that are kept apart [m], at most `FAR`, and their names."""
        distances = self._distances(position, self.pairs)
        if not len(distances) or distances.min() >= FAR:
            return FAR, ""
        nearest = int(np.argmin(distances))
        return float(distances[nearest]), " and ".join(map(self._part, self.pairs[nearest]))

    def _distances(self, position: Vector, pairs: list[tuple[int, int]]) -> Vector:
        """Distances of pairs of geoms [m], at most `FAR`, shape (len(pairs),)."""
        self.place(position)
        found = np.full(len(pairs), FAR)
        for index in np.flatnonzero(self._near(pairs)):
            found[index] = self._mujoco.mj_geomDistance(
                self.model, self.data, *pairs[index], FAR, None
            )
        return found

    def _near(self, pairs: list[tuple[int, int]]) -> NDArray[np.bool_]:
        """Pairs whose bounding spheres are not far apart; a plane has none."""
        both: Any = np.reshape(np.array(pairs, np.int64), (-1, 2))
        first, second = both[:, 0], both[:, 1]
        radii, places = self.model.geom_rbound, self.data.geom_xpos
        reach = radii[first] + radii[second] + FAR
        ways = np.linalg.norm(places[first] - places[second], axis=1)
        return (radii[first] == 0) | (radii[second] == 0) | (ways < reach)

    def _choose_pairs(self) -> list[tuple[int, int]]:
        """Pairs of geoms that could touch, but for those that nearly always do.

        As motion planners have it: such parts are drawn too large where they meet, and keeping
        them apart would only stop the arm.
        """
        found = possible_pairs(self.model, self.config)
        generator, touching = np.random.default_rng(0), np.zeros(len(found))
        for _ in range(NUM_SAMPLES if found else 0):
            touching += self._distances(generator.uniform(self.low, self.high), found) <= 0
        often = touching >= ALWAYS * NUM_SAMPLES
        return [pair for pair, left_out in zip(found, often, strict=True) if not left_out]

    def _notes(self) -> list[str]:
        apart = [pair for pair in self.pairs if self.model.geom_bodyid[[*pair]].all()]
        if apart or self.config.collisions == "none":
            return []
        return [
            f"no geoms of {self.config.model} collide: nothing keeps the arm from touching itself; "
            "robot.kinematics.collisions=all takes those that are drawn"
        ]

    def _part(self, geom: int) -> str:
        """What an operator calls a geom: its body, or its own name where that is the world."""
        body = int(self.model.geom_bodyid[geom])
        name = self.model.geom(geom).name if body == 0 else self.model.body(body).name
        return name or "the world"


def _model_joints(model: Any, robot: RobotConfig) -> list[int]:
    """Number of the model's joint behind each of the robot's, -1 for none."""
    assert robot.kinematics is not None
    num_joints, names = robot.control.limits.num_joints, robot.kinematics.joints or robot.joints
    if len(names) != num_joints:
        raise ValueError(
            f"kinematics.joints needs one name for each of the {num_joints} joints of robot "
            f"{robot.name}, got {names}"
        )
    return [joint_of(model, name) if name else -1 for name in names]


def _gripper(robot: RobotConfig) -> int:
    """Number of the robot's gripper joint, -1 for none."""
    gripper = robot.kinematics.gripper if robot.kinematics else None
    if gripper is None:
        return -1
    names = [plain_name(name) for name in robot.joints]
    if plain_name(gripper.joint) not in names:
        raise ValueError(
            f"kinematics.gripper.joint {gripper.joint!r} is none of the joints of robot "
            f"{robot.name}, {robot.joints}"
        )
    index = names.index(plain_name(gripper.joint))
    limits = robot.control.limits
    for name in ("closed", "open"):
        if not limits.low[index] <= getattr(gripper, name) <= limits.high[index]:
            raise ValueError(
                f"kinematics.gripper.{name} {getattr(gripper, name)} is outside the limits of the "
                f"joint, {limits.low[index]} to {limits.high[index]}"
            )
    return index


def _bounds(
    model: Any, low: Vector, high: Vector, joints: list[int], robot: RobotConfig
) -> tuple[Vector, Vector]:
    """Where robot and model both let each joint be, shape (J,)."""
    low, high = np.array(low), np.array(high)
    for index, joint in enumerate(joints):
        if joint < 0 or not model.jnt_limited[joint]:
            continue
        low[index] = max(low[index], model.jnt_range[joint, 0])
        high[index] = min(high[index], model.jnt_range[joint, 1])
        if not low[index] + 2 * MARGIN < high[index]:
            raise ValueError(
                f"joint {index} of robot {robot.name} and {model.joint(joint).name!r} of the model "
                "have no position in common; check limits, directions and zeros"
            )
    return low, high
