"""Policies that move the tool, through inverse kinematics and the whole controller."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arms import desktop_arm
from robots import assert_within_limits
from scripted_tool import BENT, PERIOD, ToolBench, scripted_tool

from hotloop.real_robot.core.events import EventKind, Mailbox, Mode, Request
from hotloop.real_robot.kinematics.actions import ActionsConfig
from hotloop.real_robot.policies.cartesian import UnreachableError

READS = {"state": ("position",)}
DELTA = ActionsConfig("delta", "base", ("position",), reads=READS)
POSE = ActionsConfig("pose", "base", ("position", "gripper"), gripper=(0.0, 100.0), reads=READS)
TWIST = ActionsConfig("twist", "base", ("position", "axis-angle"), reads=READS)


def home_of(robot) -> np.ndarray:
    return ToolBench(robot, scripted_tool(robot, DELTA, lambda step: np.zeros(3)), BENT).tool()


def test_poses_are_followed_within_all_limits_and_the_gripper_opens_with_them() -> None:
    robot = desktop_arm()
    home = home_of(robot)

    def circle(step: int) -> list[float]:
        s = min(0.12 * step, 2 * np.pi)
        x, z = 0.03 * np.sin(s), 0.03 * (1 - np.cos(s))
        return [home[0] - x, home[1] + x, home[2] - z, min(4.0 * step, 100.0)]

    bench = ToolBench(robot, scripted_tool(robot, POSE, circle), BENT)
    bench.live(3.4)
    tools = bench.tools()
    for step in range(8, 60):
        at = round((step + 1) * PERIOD / robot.control.dt) - 1
        assert np.linalg.norm(tools[at] - circle(step)[:3]) < 0.004, step
    assert np.allclose(bench.tool(), home, atol=1e-3), "once round"
    assert bench.position[5] == pytest.approx(1.2, abs=1e-3), "the robot's open for 100 percent"
    assert_within_limits(bench.commands, robot.control)
    assert EventKind.STOPPED not in bench.kinds() and EventKind.CHUNK_REJECTED not in bench.kinds()


@pytest.mark.parametrize("reference", ["target", "measured"])
def test_deltas_add_up(reference: str) -> None:
    robot = desktop_arm()
    actions = replace(DELTA, reference=reference, position_scale=0.01)
    script = scripted_tool(robot, actions, lambda step: [0, 1, 0] if step < 10 else [0, 0, 0])
    bench = ToolBench(robot, script, BENT)
    home = bench.tool()
    bench.live(1.5)
    way = bench.tool() - home
    if reference == "target":
        assert np.allclose(way, [0, 0.1, 0], atol=2e-3)
    else:  # A robot that lags falls short of what it is told, as robosuite's does.
        assert 0.05 < way[1] < 0.1 and np.abs(way[[0, 2]]).max() < 0.01


def test_twists_are_speeds_and_turns_are_about_the_tool() -> None:
    robot = desktop_arm(rotation_weight=0.1)
    script = scripted_tool(robot, TWIST, lambda step: [0, 0, 0, 0, 0, 0.5 * (step < 20)])
    bench = ToolBench(robot, script, BENT)
    home, before = bench.tool(), bench.arm.tool_pose(BENT)
    bench.live(1.5)
    after = bench.arm.tool_pose(bench.position)
    assert np.linalg.norm(after.position - home) < 0.01
    assert before.distances(after)[1] > 0.2, "five joints turn it as far as they can"


def test_the_observation_of_the_tool_is_where_it_is() -> None:
    robot = desktop_arm()
    made = scripted_tool(robot, DELTA, lambda step: np.zeros(3))
    bench = ToolBench(robot, made, BENT)
    bench.live(0.2)
    assert np.allclose(made._steps._executor.policy.seen[0], bench.tool(), atol=1e-6)


def test_a_plan_that_cannot_be_carried_out_is_cut_and_then_ends_the_run(capsys) -> None:
    """The tool stops over the table: nothing is sent that would go on, and the reason is said."""
    robot = desktop_arm()
    made = scripted_tool(robot, DELTA, lambda step: [0, 0, -0.01])
    bench = ToolBench(robot, made, BENT)
    with pytest.raises(UnreachableError, match=r"the tool cannot be at .* remain"):
        bench.live(3.0)
    said = capsys.readouterr().err
    assert said.count("a plan is cut") == 1 and "control steps ahead: the tool cannot be" in said
    bench.run(1.5)
    assert bench.mode is Mode.HOLD and bench.controller.resting
    assert_within_limits(bench.commands, robot.control)
    distances = [bench.arm.distance(row)[0] for row in bench.commands[::10]]
    assert min(distances) > robot.kinematics.clearance - 2e-3


def test_a_stopped_robot_is_planned_for_from_where_it_is() -> None:
    """Ten steps of deltas pass while it is stopped; none of them is made up for afterwards."""
    robot = desktop_arm()
    bench = ToolBench(robot, scripted_tool(robot, DELTA, lambda step: [0, 0.004, 0]), BENT)
    bench.live(0.5)
    bench.step(Mailbox(request=Request.STOP))
    bench.run(0.3)
    moved = BENT + np.array([0.6, 0, 0, 0, 0, 0])
    bench.position = moved  # somebody pushed it aside
    bench.step(Mailbox(request=Request.RESET))
    bench.step(Mailbox(request=Request.ARM))
    assert bench.mode is Mode.ARMED
    before, sent = bench.tool(), len(bench.commands)
    bench.live(0.5)
    assert bench.mode is Mode.RUN
    assert np.linalg.norm(bench.tool() - before) < 0.06
    assert_within_limits(bench.commands[sent - 1 :], robot.control)


def test_nothing_adds_up_while_the_robot_is_not_running() -> None:
    """Before it is armed, and while it is stopped, every plan starts where it is."""
    robot = desktop_arm()
    script = scripted_tool(robot, DELTA, lambda step: [0, 0.004, 0])
    bench = ToolBench(robot, script, BENT)
    for count in range(20):
        snapshot = bench.snapshot()._replace(time=100 + PERIOD * count, mode=Mode.ARMED)
        made = script.plan(snapshot)
        assert np.abs(made.waypoints[0] - BENT).max() < 0.05


def test_a_tool_that_lags_does_not_wind_up() -> None:
    """Asked for ten times its speed, then back: it turns at once instead of going on."""
    robot = desktop_arm()
    slow = replace(robot, control=replace(robot.control, speed=0.05))
    script = scripted_tool(slow, DELTA, lambda step: [0, 0.05 if step < 12 else -0.05, 0])
    bench = ToolBench(slow, script, BENT)
    bench.live(12 * PERIOD)
    furthest = bench.tool()[1]
    bench.live(0.6)
    assert bench.tool()[1] < furthest - 0.002
    assert_within_limits(bench.commands, slow.control)
