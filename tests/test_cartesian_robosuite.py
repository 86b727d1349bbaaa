"""The shipped convention of robomimic's actions, against robosuite's own controller."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from arms import panda

from hotloop.envs.robosuite_arm import RobosuiteArm
from hotloop.real_robot.config import ControlConfig
from hotloop.real_robot.core.limits import Limits
from hotloop.real_robot.kinematics.arm import Arm
from hotloop.real_robot.kinematics.config import GripperConfig, KinematicsConfig
from hotloop.real_robot.policies.tool_actions import ToolActions
from hotloop.train.config.compose import compose

pytest.importorskip("robosuite", reason="robosuite is not installed")

JOINTS = [f"robot0_joint{number}" for number in range(1, 8)]
FINGERS = ["gripper0_right_finger_joint1", "gripper0_right_finger_joint2"]


def the_same_arm(folder: Path, env: RobosuiteArm) -> Arm:
    """robosuite's own model of the episode as kinematics, with one finger as the gripper."""
    path = folder / "lift.xml"
    path.write_text(env.model_xml)
    robot = panda()
    seven = robot.control.limits
    limits = Limits(*((*getattr(seven, name), extra) for name, extra in
                      {"low": 0.0, "high": 0.04, "velocity": 0.1, "acceleration": 1.0,
                       "jerk": 10.0}.items()))  # fmt: skip
    kinematics = KinematicsConfig(
        str(path), "robot0_right_hand", tool_offset=(0.0, 0.0, 0.097), collisions="none",
        joints=(*JOINTS, FINGERS[0]), gripper=GripperConfig("finger", 0.0, 0.04),
    )  # fmt: skip
    joints = (*robot.joints, "finger")
    control = replace(robot.control, limits=limits)
    return Arm(replace(robot, joints=joints, control=control, kinematics=kinematics))


def test_deltas_and_poses_are_what_robosuites_controller_makes_of_them(tmp_path: Path) -> None:
    env = RobosuiteArm("Lift")
    frame = env.reset(0)
    actions = compose("control", ["robot=mujoco-arm", "actions=robomimic"], ControlConfig).actions
    assert actions is not None
    arm = the_same_arm(tmp_path, env)
    meaning = ToolActions(actions, arm, dt=0.05)
    data = env._env.sim.data._data
    controller = env._env.robots[0].part_controllers["right"]
    generator = np.random.default_rng(0)
    for moving in (False, True, True):
        joints = np.array([data.joint(name).qpos[0] for name in (*JOINTS, FINGERS[0])])
        for name, layout in actions.reads.items():
            seen, found = frame[f"observation.{name}"], meaning.read(layout, joints)
            sign = -1 if "quaternion-xyzw" in layout and seen @ found < 0 else 1
            # At rest the same; in motion robosuite's frame is a simulation step old.
            assert np.allclose(sign * found, seen, atol=4e-3 if moving else 1e-4), name
        action = generator.uniform(-1, 1, 7)
        before = arm.tool_pose(joints)
        site = np.reshape(np.array(data.site(controller.ref_name).xmat), (3, 3))
        frame, _, _ = env.step(action)
        target = meaning.target(action, before, before)
        assert np.allclose(target.position, controller.goal_pos, atol=1e-4)
        turned = target.rotation @ before.rotation.T
        # robosuite takes the rotation of a simulation step before.
        assert np.allclose(turned, controller.goal_ori @ site.T, atol=0.02)
    assert meaning.gripper(np.array([0, 0, 0, 0, 0, 0, 1.0])) == 0.0
    assert meaning.gripper(np.array([0, 0, 0, 0, 0, 0, -1.0])) == 0.04
    env.close()
