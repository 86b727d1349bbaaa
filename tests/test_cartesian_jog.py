"""Moving a tool by hand: it goes where it is asked to, stops where it must, and lets go."""

from __future__ import annotations

import numpy as np
import pytest
from arms import desktop_arm
from robots import Bench, assert_within_limits

from hotloop.real_robot.core.events import EventKind, Mailbox
from hotloop.real_robot.policies.cartesian_jog import CartesianJog
from hotloop.real_robot.policies.protocol import Snapshot

PERIOD = 0.05
STILL = np.zeros(3)
BENT = np.array([0.0, 0.3, 1.0, 1.2, 0.0, 0.3])


class JogBench(Bench):
    """The controller in virtual time, and a hand at the stick."""

    def __init__(self, frame: str = "base", start: np.ndarray = BENT) -> None:
        robot = desktop_arm()
        super().__init__(robot.control, start)
        self.jog, self.sequence = CartesianJog(robot, frame), 0  # type: ignore[arg-type]
        self.problems: list[str] = []

    def push(self, seconds: float, way=STILL, turn=STILL, gripper: float = 0.0) -> np.ndarray:
        """Hold the stick for some time; how far the tool went [m], shape (3,)."""
        before = self.tool()
        for _ in range(round(seconds / PERIOD)):
            still = np.zeros_like(self.position)
            snapshot = Snapshot(self.now, self.position, still, still[:0], sequence=self.sequence)
            made = self.jog.step(snapshot, np.asarray(way), np.asarray(turn), gripper)
            self.problems.append(made.problem)
            self.sequence += 1
            self.step(Mailbox(made.chunk))
            self.run(PERIOD - self.controller.config.dt)
        return self.tool() - before

    def tool(self) -> np.ndarray:
        return self.jog.arm.tool_pose(self.position).position


def test_the_tool_goes_where_the_stick_points_and_rests_when_it_is_let_go() -> None:
    bench = JogBench()
    bench.push(0.3, way=[0.0, 0.05, 0.0])
    assert np.allclose(bench.push(1.0, way=[0.0, 0.05, 0.0]), [0, 0.05, 0], atol=3e-3)
    bench.push(0.5)
    assert np.allclose(bench.push(0.5), 0, atol=2e-4), "still while nobody pushes"
    assert np.allclose(bench.push(1.0, way=[0.0, 0.0, 0.04]), [0, 0, 0.04], atol=6e-3)
    bench.run(1.0)
    assert bench.controller.resting, "and at rest when nobody asks any more"
    assert not any(bench.problems)
    assert_within_limits(bench.commands, bench.controller.config)
    assert EventKind.CHUNK_REJECTED not in bench.kinds()


def test_in_the_tools_own_axes_forward_is_where_it_points() -> None:
    bench = JogBench("tool")
    axis = bench.jog.arm.tool_pose(BENT).rotation[:, 2]
    bench.push(0.3, way=[0.0, 0.0, 0.03])
    way = bench.push(0.5, way=[0.0, 0.0, 0.03])
    assert way @ axis == pytest.approx(0.015, abs=3e-3)


def test_pushed_against_the_table_it_says_why_and_comes_back_at_once() -> None:
    bench = JogBench()
    bench.push(4.0, way=[0.0, 0.0, -0.08])
    assert (
        "the tool cannot be at" in bench.problems[-1]
        or "the tool cannot be at" in bench.problems[-2]
    )
    lowest = min(bench.jog.arm.distance(row)[0] for row in bench.commands[::5])
    assert lowest > 0.002
    assert np.allclose(bench.push(1.0, way=[0.0, 0.0, 0.04]), [0, 0, 0.04], atol=0.012)
    assert_within_limits(bench.commands, bench.controller.config)


def test_the_gripper_opens_and_closes_between_its_ends() -> None:
    bench = JogBench()
    bench.push(1.0, gripper=0.5)
    bench.push(2.0, gripper=1.0)
    assert bench.position[5] == pytest.approx(1.2, abs=1e-3)
    bench.push(3.0, gripper=-1.0)
    assert bench.position[5] == pytest.approx(0.0, abs=1e-3)


def test_an_arm_that_was_pushed_aside_is_moved_from_where_it_is() -> None:
    bench = JogBench()
    bench.push(0.5, way=[0.0, 0.05, 0.0])
    bench.position = BENT - np.array([0.9, 0, 0, 0, 0, 0])
    still = np.zeros(6)
    snapshot = Snapshot(bench.now, bench.position, still, still[:0], sequence=99)
    made = bench.jog.step(snapshot, STILL, STILL)
    assert np.allclose(made.chunk.waypoints, bench.position, atol=1e-6)


def test_an_arm_that_is_stretched_out_can_be_bent_again() -> None:
    """Straight up it can go nowhere but sideways, and from there everywhere."""
    bench = JogBench(start=np.zeros(6))
    bench.push(0.2, way=[0.0, 0.0, 0.04])
    assert "the arm is stretched out" in bench.problems[-1]
    assert bench.push(1.0, way=[0.06, 0.0, 0.0])[0] > 0.04
    assert bench.push(1.5, way=[0.06, 0.0, -0.06])[2] < -0.04
    assert_within_limits(bench.commands, bench.controller.config)
