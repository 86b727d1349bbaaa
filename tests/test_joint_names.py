"""What an action is called decides whether it may move a joint, and which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_joints import DT, NAMES, SPEC, save_tiny

from hotloop.decoding import ActionSpec
from hotloop.policies.checkpoint import load_checkpoint, save_checkpoint
from hotloop.real_robot.config import RobotConfig, UnitsConfig
from hotloop.real_robot.core.controller_config import ControllerConfig
from hotloop.real_robot.core.limits import Limits
from hotloop.real_robot.policies.joint_map import beyond_limits, map_joints
from hotloop.real_robot.policies.joint_names import other_meaning
from hotloop.real_robot.policies.joints import check_rate
from hotloop.train.cli import main
from hotloop.train.commands.recorded_positions import recorded as spread
from hotloop.train.commands.recorded_positions import refuse_other_than_positions

SAME = UnitsConfig()


def arm(joints: tuple[str, ...] = NAMES, **changes) -> RobotConfig:
    num = len(joints) or 6
    limits = Limits((-1.5,) * num, (1.5,) * num, *((1.0,) * num,) * 3)
    return RobotConfig("arm", "dry-run", ControllerConfig(limits, 0.01), joints=joints, **changes)


def actions(*names: str, low: float = -1.0, high: float = 1.0) -> ActionSpec:
    return ActionSpec(names, (low,) * len(names), (high,) * len(names), DT)


@pytest.mark.parametrize(
    "name",
    [
        "dx", "dy", "x", "X", "d_elbow", "z [m]", "rx", "drz", "qw", "dyaw", "x0", "delta_x",
        "shoulder_pan.vel", "shoulder_pan_velocity", "shoulderVel", "vel_2", "joint_1 speed",
        "torque", "elbow.effort", "joint0_torque", "gripper_force", "motor 1 current [mA]",
        "eef_pos_0", "ee x", "tcp_pose", "end_effector_y", "base_twist", "theta_dot", "dq1",
        "linear.x", "angular z", "hand dx [0.05 m]", "position.y",
        "shoulder_pan [rad/s]", "elbow [rad per s]", "agent x [px]", "thigh [N m]", "knee [Nm]",
    ],
)  # fmt: skip
def test_what_is_called_no_position_is_never_armed_as_one(name) -> None:
    """A checkpoint of tool motions ran on a robot file that had no names of its joints."""
    assert other_meaning(name)
    for robot in (arm(()), arm((name, *NAMES[1:])), arm(tuple("abcdef"))):
        for names in ((name,), (name, *NAMES[1:])):
            with pytest.raises(ValueError, match="no position of a joint, and is never sent"):
                map_joints(actions(*names), robot, UnitsConfig((1.0,)))


@pytest.mark.parametrize(
    "name",
    [
        *NAMES, "shoulder_pan.pos", "wrist roll [deg]", "joint_1 [rad]", "roll", "yaw", "gripper",
        "action 3", "left_waist", "panda_joint7", "finger [m]", "axis_x", "needle", "elbow 1", "d",
        "right_hip_x", "linear_rail",
    ],
)  # fmt: skip
def test_what_joints_are_called_is_welcome(name) -> None:
    assert other_meaning(name) == ""


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (tuple(f"action {i}" for i in range(3)), [0, 1, 2]),
        (tuple(f"joint_{i} [rad]" for i in (1, 2, 3)), [0, 1, 2]),
        (("joint_2", "joint_0", "joint_1"), [2, 0, 1]),
        (("action 0", "action 4", "action 7"), [0, 1, 2]),
        (("c.pos", "A", "b"), [2, 0, 1]),
    ],
)
def test_names_and_numbers_choose_the_joint(names, order) -> None:
    assert map_joints(actions(*names), arm(("a", "b", "c")), SAME).order.tolist() == order


@pytest.mark.parametrize("names", [("joint_1", "joint_1"), ("5", "3")])
def test_numbers_that_choose_no_joint_are_refused(names) -> None:
    with pytest.raises(ValueError, match=r"two actions of one name|plans 2 values"):
        map_joints(actions(*names), arm(("a", "b")), SAME)


@pytest.mark.parametrize("joints", [(), ("m1", "m2", "m3", "m4", "m5", "m6")])
def test_names_are_never_matched_by_their_order(joints) -> None:
    with pytest.raises(ValueError, match=r"robot\.joints=\[\.\.\.\]"):
        map_joints(SPEC, arm(joints), SAME)


def test_units_in_names_are_those_of_the_joint() -> None:
    spec = actions("slide [m]", "turn [rad]")
    with pytest.raises(ValueError, match=r"'slide \[m\]' is in m; .*joint 0 \(slide\).* in rad"):
        map_joints(spec, arm(("slide", "turn")), SAME)
    map_joints(spec, arm(("slide", "turn"), joint_units=("m", "rad")), SAME)
    with pytest.raises(ValueError, match=r"'turn \[deg\]' is in deg"):
        map_joints(actions("turn [deg]"), arm(("turn",)), UnitsConfig(offset=(0.1,)))


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (-60.0, 60.0, "40 times the range of the robot's joint, and hardly in the same unit"),
        (5.0, 9.0, "no joint goes that far"),
        (2.0, 3.0, "nothing is common to both"),
        (-3.0, -1.6, "nothing is common to both"),
    ],
)
def test_bounds_that_cannot_be_these_joints_are_refused(low, high, message) -> None:
    with pytest.raises(ValueError, match=message):
        map_joints(actions("turn", low=low, high=high), arm(("turn",)), SAME)
    degrees = UnitsConfig((np.pi / 180,))
    map_joints(actions("turn", low=-60, high=60), arm(("turn",)), degrees)
    with pytest.raises(ValueError, match="nothing is common to both"):
        map_joints(actions("turn", low=100, high=160), arm(("turn",)), degrees)


def test_what_limits_will_not_let_pass_is_told() -> None:
    spec, robot = actions("turn", low=-1.6, high=2.0), arm(("turn",))
    assert beyond_limits(spec, robot, map_joints(spec, robot, SAME)) == ["turn"]
    spec = actions("turn", low=-1.6, high=1.6)
    assert beyond_limits(spec, robot, map_joints(spec, robot, SAME)) == []


@pytest.mark.parametrize(
    ("dt", "message"),
    [
        (0.004, r"acts every 0\.004 s, robot arm only every 0\.01 s"),
        (0.5, r"stale_timeout=0\.5 s; check the rate"),
        (30.0, r"acts every 30 s, and robot arm brakes"),
    ],
)
def test_a_policy_at_a_rate_that_the_robot_cannot_go_along_with_is_refused(dt, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_rate(dt, arm())


def test_usual_rates_are_fine() -> None:
    for dt in (0.01, 1 / 30, 0.1):
        check_rate(dt, arm())


def recorded(path: Path, scale: float, offset: float) -> Path:
    """A checkpoint whose joints went from -0.6 to 0.6, its actions `scale` times that, and off."""
    made = load_checkpoint(save_tiny(path, "dp", actions(*NAMES, low=-0.6, high=0.6)))
    half = torch.full((6,), 0.6)
    made.model.observation_normalizer.scale.copy_(1 / half)
    made.model.action_normalizer.scale.copy_(1 / (scale * half))
    made.model.action_normalizer.offset.copy_(-offset / (scale * half))
    save_checkpoint(path / "changed", made)
    return path / "changed"


@pytest.mark.parametrize(
    ("scale", "offset", "message"),
    [
        (1 / 20, 0.0, r"0\.05 times the range of the joint positions .* never sent as positions"),
        (30.0, 0.0, "30 times the range of the joint positions"),
        (1.0, 1.7, r"'shoulder_pan' about 1\.7 where its joint was about 0: they are changes"),
    ],
)
def test_actions_that_were_no_positions_in_the_recordings_are_refused(
    scale, offset, message, tmp_path
) -> None:
    """Changes per step under the names of the joints: nothing but their size says so."""
    with pytest.raises(ValueError, match=message):
        refuse_other_than_positions(spread(load_checkpoint(recorded(tmp_path, scale, offset))))


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1.3, 0.1), (0.6, -0.1)])
def test_positions_that_were_told_and_measured_agree(scale, offset, tmp_path) -> None:
    refuse_other_than_positions(spread(load_checkpoint(recorded(tmp_path, scale, offset))))


@pytest.mark.parametrize("kind", ["dp", "diffuser", "vla"])
def test_checkpoints_that_tell_nothing_of_it_pass(kind, tmp_path) -> None:
    refuse_other_than_positions(spread(load_checkpoint(save_tiny(tmp_path / kind, kind))))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(SPEC, names=("dx", "dy", "dz", "droll", "dpitch", "gripper")), "'dx' is by its"),
        (replace(SPEC, low=(-0.01,) * 6, high=(0.01,) * 6), "they are changes, which are never"),
    ],
)
def test_the_command_refuses_in_one_line_and_never_opens_the_bus(
    spec, message, tmp_path, capfd
) -> None:
    checkpoint, out = save_tiny(tmp_path / "run", "dp", spec), tmp_path / "out"
    robot = ["robot=emulated-arm", "robot.options.port=/dev/no-such-bus"]
    arguments = [*robot, f"checkpoint={checkpoint}", f"output_dir={out}"]
    assert main(["control", *arguments]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("hotloop: error: policy: the checkpoint") and message in line
    assert "no-such-bus" not in line and not (out / "log.mcap").exists()
