"""A policy that says what it is told to, and a loop in virtual time around a tool's policy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from robots import Bench

from hotloop.decoding import ActionSpec, ActionTrajectory, Observation, ObservationSpec
from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.events import Mailbox
from hotloop.real_robot.kinematics.actions import ActionsConfig
from hotloop.real_robot.kinematics.arm import Arm
from hotloop.real_robot.kinematics.solver import Solver
from hotloop.real_robot.policies.cartesian import CartesianPolicy
from hotloop.real_robot.policies.protocol import Snapshot
from hotloop.real_robot.policies.tool_actions import ToolActions

PERIOD = 0.05
HORIZON = 8
BENT = np.array([0.0, 0.3, 1.0, 1.2, 0.0, 0.3])


class Scripted:
    """Plans eight actions, each a function of its control step; reads the tool's position."""

    num_execute = 4

    def __init__(self, size: int, script: Callable[[int], object]) -> None:
        names = tuple(f"action {index}" for index in range(size))
        self.action_spec = ActionSpec(names, (-100.0,) * size, (100.0,) * size, PERIOD)
        self.observation_spec = ObservationSpec({"observation.state": (3,)}, num_steps=1)
        self.script, self.seen = script, list[np.ndarray]()

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        self.seen.clear()

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        self.seen.append(observation.frames["observation.state"][0, -1])
        rows = [np.asarray(self.script(int(step[0]) + k), np.float64) for k in range(HORIZON)]
        return ActionTrajectory.clean(np.stack(rows)[None], step, observation.step, PERIOD)


def scripted_tool(
    robot: RobotConfig, actions: ActionsConfig, script: Callable[[int], object]
) -> CartesianPolicy:
    """A policy that follows a script with a robot's tool."""
    arm = Arm(robot)
    meaning = ToolActions(actions, arm, PERIOD)
    limits = robot.control.limits.arrays
    solver = Solver(arm, limits.velocity * robot.control.speed, limits.acceleration)
    policy = Scripted(actions.size, script)
    made = CartesianPolicy(
        policy, meaning, solver, {"observation.state": meaning.reader("state", (3,))}
    )
    made.reset(0)
    return made


class ToolBench(Bench):
    """A controller in virtual time that a tool's policy plans for."""

    def __init__(self, robot: RobotConfig, policy: CartesianPolicy, start: np.ndarray) -> None:
        super().__init__(robot.control, start)
        self.policy, self.arm = policy, Arm(robot)
        self.due, self.sequence = self.now, 0

    def live(self, seconds: float) -> None:
        """Run policy and loop side by side."""
        for _ in range(round(seconds / self.controller.config.dt)):
            chunk = None
            if self.now >= self.due - 1e-9:
                chunk = self.policy.plan(self.snapshot())
                self.due, self.sequence = self.due + PERIOD, self.sequence + 1
            self.step(Mailbox(chunk))

    def snapshot(self) -> Snapshot:
        still = np.zeros_like(self.position)
        return Snapshot(self.now, self.position, still, np.zeros(0), sequence=self.sequence)

    def tool(self) -> np.ndarray:
        """Where the tool is [m], shape (3,)."""
        return self.arm.tool_pose(self.position).position

    def tools(self) -> np.ndarray:
        """Where all commands had the tool, shape (n, 3)."""
        return np.stack([self.arm.tool_pose(row).position for row in self.commands])
