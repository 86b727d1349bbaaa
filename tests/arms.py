"""Arms with models for the tests of kinematics: the desktop arm, and a Panda where there is one."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import pytest

from hotloop.real_robot.config import ControlConfig, RobotConfig
from hotloop.real_robot.core.controller_config import ControllerConfig
from hotloop.real_robot.core.limits import Limits
from hotloop.real_robot.kinematics.config import KinematicsConfig, PlaneConfig
from hotloop.train.config.compose import compose

PANDA = "robosuite:models/assets/robots/panda/robot.xml"
needs_panda = pytest.mark.skipif(
    find_spec("robosuite") is None, reason="the Panda's model comes with robosuite"
)
READY = (0.0, 0.2, 0.0, -2.2, 0.0, 2.4, 0.78)  # a Panda with its hand down
TABLE = (PlaneConfig((0.0, 0.0, 1.0), 0.02),)


def desktop_arm(**kinematics: object) -> RobotConfig:
    robot = compose("control", ["robot=mujoco-arm"], ControlConfig).robot
    assert robot.kinematics is not None
    control = replace(robot.control, slow_start=0.0)
    return replace(robot, control=control, kinematics=replace(robot.kinematics, **kinematics))


def panda(**kinematics: object) -> RobotConfig:
    limits = Limits(
        (-2.8, -1.7, -2.8, -3.0, -2.8, 0.0, -2.8), (2.8, 1.7, 2.8, -0.1, 2.8, 3.7, 2.8),
        (2.0,) * 7, (10.0,) * 7, (400.0,) * 7,
    )  # fmt: skip
    given = {"planes": TABLE, **kinematics}
    return RobotConfig(
        "panda",
        "dry-run",
        ControllerConfig(limits, 0.002),
        joints=tuple(f"joint{number}" for number in range(1, 8)),
        kinematics=KinematicsConfig(PANDA, "right_hand", base="base", **given),
    )
