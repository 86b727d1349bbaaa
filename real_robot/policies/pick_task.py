"""Picking up a cube and putting it on a mark: the scene, the operator, and whether it was done."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..config import PolicyOptions, RobotConfig
from ..logs.reader import ControlLog
from .pick import CUBE, MARK, TABLE, PickOperator
from .protocol import PolicyKind, RobotPolicy

ARM, MODEL = "arm6", "pick"
# The cube has to lie within this distance of the mark's middle [m], and on the table.
NEAR, RAISED = 0.02, 0.003


def random_cube(seed: int) -> list[float]:
    """Where the cube lies: x, y, z [m] and angle [rad], within the arm's reach."""
    generator = np.random.default_rng(seed)
    distance, direction = generator.uniform(0.197, 0.207), generator.uniform(-0.1, 0.8)
    angle = direction + generator.uniform(-0.5, 0.5)
    place = distance * np.array([np.cos(direction), np.sin(direction)])
    return [*place.tolist(), TABLE + CUBE, float(angle)]


def make_pick_policy(robot: RobotConfig, options: PolicyOptions) -> RobotPolicy:
    """Build the operator by script; there is nothing to choose.

    Raises:
        ValueError: If the robot is not known to be the arm whose lengths the script knows.
    """
    del options
    model = "" if robot.kinematics is None else robot.kinematics.model
    if model not in (ARM, MODEL):
        raise ValueError(
            f"the pick policy knows the lengths of one arm, expected kinematics.model={ARM}, as "
            f"robot=mujoco-arm has it; robot {robot.name} has {model or 'no kinematics'!r}"
        )
    return PickOperator(robot)


def set_cube(robot: RobotConfig, seed: int) -> RobotConfig:
    """Put table and cube before a simulated arm, also into its cameras' pictures."""
    if robot.driver not in ("mujoco", "dry-run"):
        return robot
    model = {"model": MODEL} if robot.driver == "mujoco" else {}
    cameras = {
        name: replace(camera, options={**camera.options, "model": MODEL})
        if camera.driver == "mujoco"
        else camera
        for name, camera in robot.cameras.items()
    }
    options = {"scene": random_cube(seed), **robot.options, **model}
    return replace(robot, options=options, cameras=cameras)


def pick_score(log: ControlLog) -> float:
    """1 if the cube was carried and lies on the mark in the end, else 0."""
    sensors = log.column("state.sensors")
    if not len(sensors):
        return 0.0
    mark = MARK[0] * np.array([np.cos(MARK[1]), np.sin(MARK[1])])
    carried = sensors[:, 2].max() > TABLE + CUBE + 0.01
    lies = sensors[-1, 2] < TABLE + CUBE + RAISED
    near = np.linalg.norm(sensors[-1, :2] - mark) < NEAR
    return float(carried and lies and near)


PICK = PolicyKind(
    make_pick_policy,
    settings=(),
    prepare=set_cube,
    score=pick_score,
)
