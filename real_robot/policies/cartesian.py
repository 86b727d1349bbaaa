"""Any policy whose actions move the tool, on any arm with a model."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import NamedTuple

import numpy as np

from ...decoding import ActionTrajectory, Policy
from ..config import PolicyOptions, RobotConfig
from ..core.events import Mode
from ..core.limits import Vector
from ..core.trajectory import Chunk
from ..kinematics.arm import Arm
from ..kinematics.pose import Pose
from ..kinematics.solver import Motion, Solver
from .control_steps import MAX_ACTIONS, ControlSteps
from .held_up import FARTHEST, farthest_behind
from .joint_map import JointMap
from .joints import (
    Reader,
    cameras_of,
    check_rate,
    check_read,
    make_reader,
    say,
    standing_still,
    warn_of_slow_plans,
)
from .protocol import Console, Snapshot
from .tool_actions import ToolActions
from .tool_spec import check_tool_spec

# How far deltas may add up ahead of a tool that is too slow for them [m, rad].
LEAD = (0.05, 0.5)
# Late poses per plan that are tried without hurry: it takes a millisecond each.
MOST_CHECKS = 8
# The rest of a message to the control loop is for braking.
MOST_STEPS = MAX_ACTIONS - 20


class UnreachableError(ValueError):
    """The tool cannot go where the policy wants it; the run ends."""


class ToolStep(NamedTuple):
    """One control step of a plan.

    Attributes:
        target: Where the tool is to be in the base.
        motion: The joints for that.
    """

    target: Pose
    motion: Motion


class CartesianPolicy:
    """Runs a policy that moves the tool: a pose per control step, joint positions for each.

    A plan goes on from the one before it as long as the robot follows; if it does not, because it
    was stopped or held up, the next plan starts from where it was measured. A pose that cannot be
    had ends the plan before it; if it is that of the present control step, the run ends.

    Args:
        policy: Its actions move the tool.
        meaning: What each of its numbers asks of the tool.
        solver: Inverse kinematics.
        readers: How each of its observations is read from a snapshot.
        cameras: Cameras whose pictures the readers need.
        latency: Control steps between an observation and the first action planned from it.
        lost: Distance from its plan at which a joint is somewhere else, shape (J,).
    """

    def __init__(
        self,
        policy: Policy,
        meaning: ToolActions,
        solver: Solver,
        readers: Mapping[str, Reader],
        cameras: tuple[str, ...] = (),
        latency: int = 0,
        lost: Vector | float = FARTHEST,
    ) -> None:
        self.period, self.cameras = policy.action_spec.dt, cameras
        self._meaning, self._solver, self._readers = meaning, solver, readers
        self._steps, self._lost = ControlSteps(policy, latency), lost
        self._made: dict[int, ToolStep] = {}
        self._held: ToolStep | None = None
        self._warned, self._say, self._attached = "", say, False

    def attach(self, console: Console) -> None:
        """Tell the operator by the run's own lines."""
        self._say, self._attached = console.say, True

    def reset(self, seed: int) -> None:
        """Start an episode."""
        self._steps.reset(seed)
        self._made.clear()
        self._held, self._warned = None, ""

    def plan(self, snapshot: Snapshot) -> Chunk | None:
        """Joint positions for the next moments, as far as the tool can go.

        Returns:
            None if there is nothing to send: no action is ready, or the next is not due.

        Raises:
            UnreachableError: If the present action cannot be carried out.
        """
        if self._held is None:
            # What the actions do not say stays as it was when the episode began.
            self._held = self._measured(snapshot)
            if self._attached:  # An operator sees by it whether the model is the arm's.
                x, y, z = self._held.target.position
                self._say(f"the tool is at ({x:.3f}, {y:.3f}, {z:.3f}) m")
            self._solver.prefer(snapshot.position)
        frame = {key: read(snapshot) for key, read in self._readers.items()}
        actions = self._steps.act(snapshot.time, frame)
        if actions is None:
            self._made.clear()
            return None
        first, now = int(actions.first_step[0]), int(actions.observed_step[0])
        self._made = {step: made for step, made in self._made.items() if first <= step < now}
        self._go_on(actions, self._before(now, snapshot), snapshot)
        begin = now
        while begin - 1 in self._made:
            begin -= 1
        return self._chunk(begin, float(self._steps.due(actions)[begin - first]), snapshot)

    def _chunk(self, begin: int, due: float, snapshot: Snapshot) -> Chunk:
        """All steps from `begin` on, which is due then [s], and the way to rest after the last.

        Nobody knows whether another plan will come.
        """
        motions = [self._made[step].motion for step in range(begin, max(self._made) + 1)]
        motions += self._solver.to_rest(motions[-1], self.period)
        times = due + self.period * np.arange(len(motions))
        return snapshot.chunk(times, np.stack([motion.position for motion in motions]))

    def _measured(self, snapshot: Snapshot) -> ToolStep:
        motion = Motion(np.array(snapshot.position), np.array(snapshot.velocity))
        return ToolStep(self._solver.arm.tool_pose(motion.position), motion)

    def _before(self, now: int, snapshot: Snapshot) -> ToolStep:
        """What the step before the present one led to: its plan, or else the measurement."""
        # While the loop does not follow plans, none goes on from the one before.
        made = self._made.get(now - 1) if snapshot.mode is Mode.RUN else None
        if (
            made is None
            or not (np.abs(made.motion.position - snapshot.position) <= self._lost).all()
        ):
            self._made.clear()
            return self._measured(snapshot)
        return made

    def _go_on(self, actions: ActionTrajectory, before: ToolStep, snapshot: Snapshot) -> None:
        """Solve for the present action and all that follow, up to one that cannot be had."""
        assert self._held is not None
        meaning, first = self._meaning, int(actions.first_step[0])
        now, num_late = int(actions.observed_step[0]), 0
        reference = before.target
        if meaning.config.reference == "measured":
            reference = self._solver.arm.tool_pose(snapshot.position)
        for step in range(now, first + min(actions.horizon, MOST_STEPS)):
            action = np.asarray(actions.actions[0, step - first], np.float64)
            target = meaning.target(action, reference, self._held.target)
            check = num_late < MOST_CHECKS
            found = self._solver.solve(before.motion, before.target, target, self.period, check)
            num_late += found.late
            if found.problem:
                self._refuse(found.problem, step - now)
                return
            reference = self._lagging(target, found.motion) if found.late else target
            before = ToolStep(reference, self._with_gripper(found.motion, action))
            self._made[step] = before

    def _lagging(self, target: Pose, motion: Motion) -> Pose:
        """What the next way starts from: not a pose that the tool is ever further behind."""
        reached = self._solver.arm.tool_pose(motion.position)
        way, turn = reached.distances(target)
        return target if way <= LEAD[0] and turn <= LEAD[1] else reached

    def _with_gripper(self, motion: Motion, action: Vector) -> Motion:
        """The gripper's joint goes where it is told to; how fast is the control loop's business."""
        gripper = self._meaning.gripper(action)
        if gripper is None:
            return motion
        joint, (position, velocity) = self._solver.arm.gripper, map(np.array, motion)
        position[joint], velocity[joint] = gripper, 0.0
        return Motion(position, velocity)

    def _refuse(self, problem: str, ahead: int) -> None:
        """End the run, or tell once that a plan ends early."""
        if ahead == 0:
            raise UnreachableError(problem)
        if not self._warned:
            self._say(f"a plan is cut {ahead} control steps ahead: {problem}")
        self._warned = problem

    def try_out(self, snapshot: Snapshot) -> float:
        """Plan three times from the same snapshot; return how long the third plan took [s].

        What does not fit together shows here, before a robot moves. Where the tool could not go
        from a made-up snapshot does not matter.
        """
        self.reset(0)
        duration, time = 0.0, 0.0
        while self._steps.num_plans < 3:
            began = perf_counter()
            try:
                self.plan(snapshot._replace(time=time))
            except UnreachableError:
                self._made.clear()
            duration, time = perf_counter() - began, time + self.period
        return duration


def on_tool(policy: Policy, robot: RobotConfig, options: PolicyOptions) -> CartesianPolicy:
    """Connect a policy whose actions move the tool with a robot, and try it out.

    Args:
        policy: The policy.
        robot: Its kinematics, joints, cameras and limits are compared with the policy.
        options: ``actions``, ``latency``, by default 1, ``instruction`` and ``given`` are read.

    Raises:
        ValueError: If the policy and the robot do not fit each other.
    """
    actions = options.actions
    if actions is None:
        raise ValueError(
            "the cartesian policy needs to be told what the checkpoint's actions are: actions=… "
            "(a shipped convention or a file of your own)"
        )
    check_tool_spec(policy.action_spec, actions, robot)
    check_rate(policy.action_spec.dt, robot)
    arm, limits = Arm(robot), robot.control.limits.arrays
    meaning = ToolActions(actions, arm, policy.action_spec.dt)
    shapes = {key: tuple(shape) for key, shape in policy.observation_spec.shapes.items()}
    check_read(shapes, options)
    readers = _readers(shapes, meaning, robot, options)
    cameras = cameras_of(policy.observation_spec)
    solver = Solver(arm, limits.velocity * robot.control.speed, limits.acceleration)
    latency = 1 if options.latency is None else options.latency
    made = CartesianPolicy(
        policy, meaning, solver, readers, cameras, latency, farthest_behind(robot)
    )
    for text in arm.notes:
        say(text)
    duration = made.try_out(standing_still(robot, shapes))
    warn_of_slow_plans(duration, latency, made.period)
    return made


def _readers(
    shapes: Mapping[str, tuple[int, ...]],
    meaning: ToolActions,
    robot: RobotConfig,
    options: PolicyOptions,
) -> dict[str, Reader]:
    """How each observation is read: as `actions.reads` says, or as any policy's is."""
    reads = meaning.config.reads
    num_joints = robot.control.limits.num_joints
    joints = JointMap(np.arange(num_joints), np.ones(num_joints), np.zeros(num_joints))
    found: dict[str, Reader] = {}
    for key, shape in shapes.items():
        name = key.removeprefix("observation.")
        if name in reads:
            found[key] = meaning.reader(name, shape)
        elif key == "observation.state":
            raise ValueError(
                f"the checkpoint reads {key!r} of shape {shape}; say what it holds with "
                "actions.reads.state=[...], e.g. [position,axis-angle,gripper] or [joints]"
            )
        else:
            found[key] = make_reader(key, shape, robot, joints, options)
    return found
