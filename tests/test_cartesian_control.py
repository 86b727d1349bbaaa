"""`hotloop control` with checkpoints that move the tool, and what it refuses before it moves."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from arms import desktop_arm
from robots import assert_log_within_limits, commands
from tiny_joints import save_tiny

from hotloop.decoding import ActionSpec
from hotloop.real_robot.config import ControlConfig, PolicyOptions
from hotloop.real_robot.kinematics.actions import ActionsConfig
from hotloop.real_robot.kinematics.arm import Arm
from hotloop.real_robot.logs.reader import read_log
from hotloop.real_robot.policies.tool_spec import check_tool_spec
from hotloop.train.commands import ExitCode
from hotloop.train.commands.robot_policies import make_cartesian_policy
from hotloop.train.config.compose import choices, compose

NAMES = ("ee.x", "ee.y", "ee.z", "ee.wx", "ee.wy", "ee.wz", "ee.gripper_pos")
LOW, HIGH = (0.2, -0.04, 0.12, -1.0, -1.0, -1.0, 10.0), (0.26, 0.04, 0.18, 1.0, 1.0, 1.0, 90.0)
SPEC = ActionSpec(NAMES, LOW, HIGH, 0.1)


def control(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hotloop.train.cli", "control", "robot=mujoco-arm"]
    start = "robot.options.position=[0.0,0.3,1.0,1.2,0.0,0.3]"
    return subprocess.run([*command, start, *arguments], capture_output=True, text=True)


def test_a_checkpoint_of_poses_moves_the_tool_of_the_simulated_arm(tmp_path: Path) -> None:
    checkpoint = save_tiny(tmp_path / "run", "dp", SPEC)
    process = control(
        f"checkpoint={checkpoint}", "actions=lerobot", f"output_dir={tmp_path}", "duration=2",
        "robot.control.slow_start=0.2", "robot.control.rules.max_age=5.0",
        "robot.control.stale_timeout=2.0",
    )  # fmt: skip
    assert process.returncode == ExitCode.SUCCESS, process.stdout + process.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["accepted_chunks"] >= 1 and summary["limit_violations"] == 0
    log, arm = read_log(tmp_path / "log.mcap"), Arm(desktop_arm())
    assert_log_within_limits(log)
    last = arm.tool_pose(commands(log)[-1]).position
    room = 0.02
    assert (np.array(LOW[:3]) - room <= last).all() and (last <= np.array(HIGH[:3]) + room).all()


def test_a_pose_out_of_reach_ends_the_run_with_the_reason(tmp_path: Path) -> None:
    far = replace(SPEC, low=(1.0, *LOW[1:]), high=(1.1, *HIGH[1:]))
    checkpoint = save_tiny(tmp_path / "run", "dp", far)
    process = control(f"checkpoint={checkpoint}", "actions=lerobot", "duration=2")
    assert process.returncode == ExitCode.USAGE
    assert "the tool cannot be at (1.0" in process.stderr
    assert len(process.stderr.splitlines()) == 1, process.stderr


def test_a_twist_into_the_table_ends_over_it_with_the_reason(tmp_path: Path) -> None:
    """Down for ever: it says where the tool is, cuts the plan, brakes, and says why it ended."""
    low, high = (-0.01, -0.01, -0.06, *(-0.01,) * 3, 0.2), (0.01, 0.01, -0.05, *(0.01,) * 3, 0.3)
    spec = ActionSpec(tuple(f"action {index}" for index in range(7)), low, high, 0.1)
    process = control(
        f"checkpoint={save_tiny(tmp_path / 'run', 'dp', spec)}", "actions=twist",
        "actions.reads.state=[position,axis-angle,gripper]", f"output_dir={tmp_path}",
        "duration=30", "robot.control.slow_start=0.2", "robot.control.stale_timeout=2.0",
        "robot.control.rules.max_age=2.0",
    )  # fmt: skip
    assert process.returncode == ExitCode.FAILED, process.stdout + process.stderr
    assert re.search(r"the tool is at \(0\.2\d\d, -?0\.00\d, 0\.1[56]\d\) m", process.stdout)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["ended_by"] == "policy died" and summary["limit_violations"] == 0
    assert "the tool cannot be at" in summary["policy_failure"]
    assert "the tool cannot be at" in "".join(summary["failures"])
    arm = Arm(desktop_arm())
    sent = commands(read_log(tmp_path / "log.mcap"))
    assert min(arm.distance(row)[0] for row in sent[::20]) > 0
    assert np.array_equal(sent[-1], sent[-50]), "at rest"


def test_a_checkpoint_that_was_not_told_what_its_actions_are_is_not_armed(tmp_path: Path) -> None:
    """Positions of a tool are no joint positions, whatever their number."""
    spec = replace(SPEC, names=("dx", "dy", "dz", "a", "b", "c"), low=LOW[:6], high=HIGH[:6])
    process = control(f"checkpoint={save_tiny(tmp_path / 'run', 'dp', spec)}", "duration=1")
    assert process.returncode == ExitCode.USAGE
    assert process.stderr.startswith("hotloop: error: policy: the checkpoint")


@pytest.mark.parametrize("name", [name for name in choices("actions") if name != "joints"])
def test_every_shipped_convention_is_sound_and_plans_joints_by_default(name: str) -> None:
    config = compose("control", ["robot=mujoco-arm", f"actions={name}"], ControlConfig)
    assert config.actions is not None and config.actions.size in (7, 10)
    assert compose("control", ["robot=mujoco-arm"], ControlConfig).actions is None


def test_actions_of_ones_own_are_a_file_or_said_on_the_line(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("base: robomimic\nframe: tool\nposition_scale: 0.01\n")
    config = compose("control", ["robot=mujoco-arm", f"actions={own}"], ControlConfig)
    assert config.actions is not None and config.actions.frame == "tool"
    assert config.actions.position_scale == 0.01 and config.actions.rotation_scale == 0.5
    line = ["actions.kind=delta", "actions.frame=base", "actions.layout=[x,y]"]
    config = compose("control", ["robot=mujoco-arm", *line], ControlConfig)
    assert config.actions == ActionsConfig("delta", "base", ("x", "y"))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"layout": ("position", "speed")}, "there is no part 'speed'; choose from position"),
        ({"layout": ("position", "x")}, "each part once"),
        ({"layout": ("axis-angle", "6d-rows")}, "one rotation at most"),
        ({"layout": ("unused",)}, "must hold something"),
        ({"kind": "pose", "frame": "tool"}, "must be base"),
        ({"kind": "twist", "layout": ("position", "6d-rows")}, "axis-angle per second"),
        ({"position_scale": 0.0}, "actions.position_scale must be finite and not 0"),
        ({"gripper": (1.0, 1.0)}, "two different numbers"),
        ({"reads": {"state": ("x",)}}, r"actions.reads.state: there is no part 'x'"),
    ],
)
def test_actions_without_meaning_are_refused(changes: dict, match: str) -> None:
    given = {"kind": "delta", "frame": "base", "layout": ("position", "axis-angle"), **changes}
    with pytest.raises(ValueError, match=match):
        ActionsConfig(**given)


DELTAS = ActionsConfig("delta", "base", ("position", "gripper"), position_scale=0.05)
POSES = ActionsConfig("pose", "base", ("position", "quaternion-xyzw"))


def spec(*names: str, most: float = 1.0, dt: float = 0.05) -> ActionSpec:
    return ActionSpec(names, (-most,) * len(names), (most,) * len(names), dt)


@pytest.mark.parametrize(
    ("actions", "given", "match"),
    [
        (DELTAS, spec("a", "b", "c"), "actions.layout is 4: position 3, gripper 1"),
        (replace(DELTAS, names=tuple("xyzg")), spec("z", "y", "x", "g"), "actions.names are"),
        (DELTAS, spec("shoulder_pan.pos", "b", "c", "d"), "is a joint of robot mujoco-arm"),
        (DELTAS, spec("dx [0.01 m]", "b", "c", "d"), "says actions.position_scale=0.01, got 0.05"),
        (DELTAS, spec("dx [px]", "b", "c", "d"), "in px, which is no unit of a tool's motion"),
        (DELTAS, spec("a", "b", "c", "d", most=60.0), "60 m/s, which no arm does"),
        (POSES, spec(*"abcdefg", most=900.0), "900 m from the base, which no arm does"),
        (POSES, spec(*"abcdefg", most=3.0), "is no part of a rotation written as quaternion-xyzw"),
    ],
)  # fmt: skip
def test_actions_that_cannot_be_what_is_said_are_refused(actions, given, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_tool_spec(given, actions, desktop_arm())


def test_names_with_the_right_units_pass_and_numbers_have_no_names() -> None:
    check_tool_spec(
        spec("dx [0.05 m]", "dy [0.05 m]", "dz [0.05 m]", "grip"), DELTAS, desktop_arm()
    )
    named = replace(DELTAS, names=("x", "y", "z", "g"))
    check_tool_spec(spec("action 0", "action 1", "action 2", "action 3"), named, desktop_arm())
    check_tool_spec(spec("X", "y", "Z", "g [rad]"), named, desktop_arm())
    gripper = replace(DELTAS, layout=("gripper", "position"))
    check_tool_spec(spec("gripper.pos", "a", "b", "c"), gripper, desktop_arm())


@pytest.mark.parametrize(
    ("actions", "match"),
    [
        (None, "needs to be told what the checkpoint's actions are"),
        (ActionsConfig("pose", "base", ("position", "axis-angle", "gripper"), gripper=(0, 100)),
         r"actions.reads.state=\[...\]"),
        (ActionsConfig("pose", "base", ("position", "axis-angle", "gripper"), gripper=(0, 100),
                       reads={"state": ("position",)}),
         r"actions.reads.state is 3 numbers, position; the checkpoint reads shape \(7,\)"),
    ],
)  # fmt: skip
def test_what_the_policy_reads_has_to_be_said_too(actions, match: str, tmp_path: Path) -> None:
    options = PolicyOptions(
        checkpoint=str(save_tiny(tmp_path / "run", "dp", SPEC)), actions=actions
    )
    with pytest.raises(ValueError, match=match):
        make_cartesian_policy(desktop_arm(), options)


def test_a_gripper_needs_a_gripper(tmp_path: Path) -> None:
    actions = ActionsConfig(
        "pose", "base", ("position", "axis-angle", "gripper"), gripper=(0, 100),
        reads={"state": ("position", "axis-angle", "gripper")},
    )  # fmt: skip
    options = PolicyOptions(
        checkpoint=str(save_tiny(tmp_path / "run", "dp", SPEC)), actions=actions
    )
    with pytest.raises(ValueError, match=r"actions\.layout has a gripper, the robot none"):
        make_cartesian_policy(desktop_arm(gripper=None), options)
