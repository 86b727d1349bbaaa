"""Moving a tool by hand: what a gamepad, a keyboard or a spacemouse asks for, as chunks."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from ..config import RobotConfig
from ..core.limits import Vector
from ..core.trajectory import Chunk
from ..kinematics.arm import Arm
from ..kinematics.pose import Pose, rotation_matrix
from ..kinematics.solver import Motion, Solver
from .held_up import farthest_behind
from .protocol import Snapshot

STEP = 0.05  # Between waypoints [s].
NUM_STEPS = 8  # Waypoints ahead: how long a motion goes on if nobody asks any more.


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
        self._solver = Solver(self.arm, limits.velocity * robot.control.speed, limits.acceleration)
        self._lost = farthest_behind(robot)
        self._in_own_axes = frame == "tool"
        self.reset()

    def reset(self) -> None:
        """Begin where the robot is then, and keep its posture where there is a choice."""
        self._begun, self._motions = 0.0, list[Motion]()
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
        motion, target = self._begin(snapshot)
        self._way, self._turn = np.asarray(way, np.float64), np.asarray(turn, np.float64)
        self._begun, self._target, motions, problem = snapshot.time, target, [motion], ""
        for index in range(NUM_STEPS):
            if problem:
                motion = self._solver.braked(motion, STEP)
            else:
                before, wanted = (self._moved(target, (index + k) * STEP) for k in (0, 1))
                motion, problem, late = self._solver.solve(motion, before, wanted, STEP)
                if index == 0 and (problem or late):
                    # Not ever further ahead of a tool that cannot follow.
                    self._target = None
            motion = self._opened(motion, gripper)
            motions.append(motion)
        self._motions = [*motions, *self._solver.to_rest(motion, STEP)]
        times = snapshot.time + STEP * np.arange(len(self._motions))
        rows = np.stack([motion.position for motion in self._motions])
        return JogStep(snapshot.chunk(times, rows), problem)

    def _begin(self, snapshot: Snapshot) -> tuple[Motion, Pose]:
        """Where joints and tool are meant to be now: as planned, or as measured if that failed."""
        motion = self._planned(snapshot.time)
        if motion is None:
            self._solver.prefer(snapshot.position)
        if motion is None or not self._followed(motion, snapshot):
            motion = Motion(np.array(snapshot.position), np.array(snapshot.velocity))
            self._target = None
        if self._target is None:
            return motion, self.arm.tool_pose(motion.position)
        return motion, self._moved(self._target, snapshot.time - self._begun)

    def _followed(self, motion: Motion, snapshot: Snapshot) -> bool:
        return bool((np.abs(motion.position - snapshot.position) <= self._lost).all())

    def _planned(self, time: float) -> Motion | None:
        """What the last plan has for a time, None if it has nothing."""
        share, index = math.modf((time - self._begun) / STEP)
        if not 0 <= index < len(self._motions) - 1:
            return None
        before, after = self._motions[int(index)], self._motions[int(index) + 1]
        way = after.position - before.position
        return Motion(
            before.position + share * way,
            before.velocity + share * (after.velocity - before.velocity),
        )

    def _moved(self, pose: Pose, duration: float) -> Pose:
        """Where the tool comes from a pose at the speeds asked for last."""
        turn = rotation_matrix("axis-angle", duration * self._turn)
        return pose.moved(duration * self._way, turn, self._in_own_axes)

    def _opened(self, motion: Motion, speed: float) -> Motion:
        """The gripper's joint moved on by a step."""
        gripper, joint = self.arm.config.gripper, self.arm.gripper
        if gripper is None or not speed:
            return motion
        position = np.array(motion.position)
        ends = sorted((gripper.closed, gripper.open))
        moved = position[joint] + STEP * speed * (gripper.open - gripper.closed)
        position[joint] = min(max(moved, ends[0]), ends[1])
        return Motion(position, motion.velocity)
