"""Moving a tool by hand: what a gamepad, a keyboard or a spacemouse asks for, as chunks."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from ..config import RobotConfig
from ..core.limits import Vector
from ..core.trajectory import Chunk
from ..kinematics.arm import Arm
from ..kinematics.pose import Pose, rotation_matrix
from ..kinematics.solver import Solver
from .protocol import Snapshot

STEP = 0.05  # Between waypoints [s].
NUM_STEPS = 8  # Waypoints ahead: how long a motion goes on if nobody asks any more.
LOST = 0.5  # A joint this far from its plan is somewhere else [rad or m].


class JogStep(NamedTuple):
    """What to send, and why it is less than what was asked for.

    Attributes:
        chunk: Joint positions for the next `NUM_STEPS` * `STEP` seconds.
        problem: What keeps the tool from going on, empty if nothing does.
    """

    chunk: Chunk
    problem: str


class CartesianJog:
    """Moves a tool at the speeds that somebody asks for, as far as it can go.

    A tool that cannot go on stays where it is and goes another way when asked to. One that nobody
    asks for any more comes to rest after the waypoints that were sent last.

    Args:
        robot: Its kinematics say what the tool is.
        frame: Whose axes ways and turns are along: those of the base, or the tool's own.

    Raises:
        ValueError: If the robot has no kinematics, or they do not fit it.
        ImportError: If mink is missing.
    """

    def __init__(self, robot: RobotConfig, frame: Literal["base", "tool"] = "base") -> None:
        self.arm = Arm(robot)
        limits = robot.control.limits.arrays
        self._solver = Solver(self.arm, limits.velocity * robot.control.speed)
        self._low, self._high = limits.low, limits.high
        tracking = np.asarray(robot.control.tracking_error)
        self._lost = 2 * tracking if tracking.size else LOST
        self._in_own_axes = frame == "tool"
        self.reset()

    def reset(self) -> None:
        """Begin where the robot is then, and keep its posture where there is a choice."""
        self._times, self._rows = np.zeros(0), np.zeros((0, 0))
        self._target: Pose | None = None
        self._way, self._turn = np.zeros(3), np.zeros(3)

    def step(self, snapshot: Snapshot, way: Vector, turn: Vector, gripper: float = 0.0) -> JogStep:
        """Plan from what the robot measured; call it several times within 0.4 s.

        Args:
            snapshot: The robot now.
            way: Velocity of the tool [m/s], shape (3,).
            turn: Velocity of its rotation, about its own origin [rad/s], shape (3,).
            gripper: How fast the gripper opens, in openings per second; below 0 closes it.
        """
        position, target = self._begin(snapshot)
        self._way, self._turn = np.asarray(way, np.float64), np.asarray(turn, np.float64)
        rows, problem = [position], ""
        for index in range(1, NUM_STEPS + 1):
            if not problem:
                wanted = self._moved(target, index * STEP)
                found = self._solver.solve(position, wanted, STEP)
                position, problem = found.position, found.problem
                if problem or found.late:
                    # Not ever further ahead of a tool that cannot follow.
                    self._target = None if index == 1 else self._target
            if problem:
                position = rows[-1]
            rows.append(self._with_gripper(position, gripper))
        self._times = snapshot.time + STEP * np.arange(NUM_STEPS + 1)
        self._rows = np.stack(rows)
        return JogStep(snapshot.chunk(self._times, self._rows), problem)

    def _begin(self, snapshot: Snapshot) -> tuple[Vector, Pose]:
        """Where joints and tool are meant to be now: as planned, or as measured if that failed."""
        position = self._planned(snapshot.time)
        if position is None or not (np.abs(position - snapshot.position) <= self._lost).all():
            if position is None:
                self._solver.prefer(snapshot.position)
            position, self._target = np.array(snapshot.position), None
        if self._target is None:
            self._target = self.arm.tool_pose(position)
        else:
            self._target = self._moved(self._target, snapshot.time - float(self._times[0]))
        return position, self._target

    def _planned(self, time: float) -> Vector | None:
        """Joint positions that the last plan has for a time, None if it has none."""
        if not len(self._times) or not self._times[0] <= time <= self._times[-1]:
            return None
        index = min(int((time - self._times[0]) / STEP), NUM_STEPS - 1)
        share = (time - self._times[index]) / STEP
        return self._rows[index] + share * (self._rows[index + 1] - self._rows[index])

    def _moved(self, pose: Pose, duration: float) -> Pose:
        """Where the tool comes from a pose at the speeds asked for last."""
        turn = rotation_matrix("axis-angle", duration * self._turn)
        return pose.moved(duration * self._way, turn, self._in_own_axes)

    def _with_gripper(self, position: Vector, speed: float) -> Vector:
        gripper, joint = self.arm.config.gripper, self.arm.gripper
        if gripper is None or not speed:
            return position
        moved = np.array(position)
        ends = sorted((gripper.closed, gripper.open))
        moved[joint] += STEP * speed * (gripper.open - gripper.closed)
        moved[joint] = min(max(moved[joint], ends[0]), ends[1])
        return moved
