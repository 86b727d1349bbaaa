"""Joint positions that bring the tool to a pose: differential inverse kinematics by mink."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...decoding.plumbing.extras import require
from ..core.limits import Vector
from .arm import LEVER, Arm
from .inequalities import Box, Contacts, brakable
from .model import TOOL
from .pose import Pose, rotation_matrix

MAX_ITERATIONS = 30
LARGEST_STEP = 0.15  # Per iteration and joint [rad or m]: the Jacobian holds for little more.
SMALL_LAG = 1e-4  # [m or rad]
SMALL_STEP = 1e-5  # An iteration that moves no joint further is the last one [rad or m].
PRECISION = 0.001  # Share of the tolerances that is near enough.
POSTURE_COST = 3e-4  # Of 1 rad away from the posture that the arm keeps if it may choose [m/rad].
TASK_DAMPING, DAMPING = 1e-2, 1e-8
ROUNDING = 1e-3  # How far a linearised contact may come out below the clearance [m].
HALVINGS = 4
FAST = 0.99  # Share of its speed limit at which a joint cannot do more.
SHARE = 0.5  # Of the accelerations; the rest is for the control loop to follow.


class Motion(NamedTuple):
    """Joints on their way.

    Attributes:
        position: Joint positions, shape (J,).
        velocity: Joint velocities, shape (J,).
    """

    position: Vector
    velocity: Vector


class Solution(NamedTuple):
    """Where the joints are to be for a pose.

    Attributes:
        motion: Joint positions, and the velocities by which they came there.
        problem: Why the pose cannot be had, empty if it can, or may once the joints catch up.
        late: Whether the joints are too slow, or brake too early, to be there in time.
    """

    motion: Motion
    problem: str
    late: bool


class Solver:
    """Brings a tool from pose to pose within joint limits, speeds, clearances and planes.

    Each pose takes a few quadratic programs, each linearised where the one before ended. What
    comes out is measured anew on the model: a program that was solved is not yet a pose.

    Args:
        arm: The arm.
        velocity: Largest speed of each joint [rad/s or m/s], shape (J,).
        acceleration: Largest acceleration of each joint [rad/s2 or m/s2], shape (J,).
    """

    def __init__(self, arm: Arm, velocity: Vector, acceleration: Vector) -> None:
        mink: Any = require("mink", "ik")
        require("daqp", "ik")
        self._qpsolvers: Any = require("qpsolvers", "ik")
        self.arm, self._velocity, self._mink = arm, velocity, mink
        self._acceleration: Vector = SHARE * acceleration
        config, model = arm.config, arm.model
        self._configuration: Any = mink.Configuration(model)
        self._task: Any = mink.FrameTask(
            TOOL, "site", 1.0, config.rotation_weight, lm_damping=TASK_DAMPING
        )
        self._posture: Any = mink.PostureTask(model, POSTURE_COST)
        self._posture.set_target(model.qpos0)
        self._box = Box(mink, arm)
        self._limits: list[Any] = [self._box]
        self._braking = LEVER * float(self._acceleration[arm.solved].min())
        self._contacts = None
        if arm.pairs:
            self._contacts = Contacts(mink, arm, self._braking)
            self._limits.append(self._contacts)
        self._frozen = [mink.DofFreezingTask(model, arm.frozen)] if arm.frozen else None

    def prefer(self, position: Vector) -> None:
        """Stay near the posture of `position`, shape (J,), where a pose leaves a choice."""
        self._posture.set_target(self.arm.qpos(position))

    def solve(
        self, start: Motion, before: Pose, target: Pose, duration: float, check: bool = True
    ) -> Solution:
        """Joint positions for a pose, as near to it as the joints come in the given time.

        Whatever the pose is, the joints can be braked there without touching anything, if they
        could be at the start.

        Args:
            start: The joints before.
            before: The tool's pose in the base that was wanted then.
            target: The one that is wanted now.
            duration: Time between them [s].
            check: Whether a pose that the joints are late for is tried without hurry: it takes a
                millisecond or two to know that they will ever be there.
        """
        if not (np.isfinite(target.position).all() and np.isfinite(target.rotation).all()):
            return Solution(start, f"the pose wanted is not finite: {target}", late=False)
        arm, braked = self.arm, self.braked(start, duration).position
        low, high = self._reach(start, duration)
        low = np.maximum(low, start.position - self._room(start.position - arm.low, duration))
        high = np.minimum(high, start.position + self._room(arm.high - start.position, duration))
        low, high = np.minimum(low, braked), np.maximum(high, braked)
        goal = self.goal(start, before, target, duration)
        found = self._descend(braked, goal, low, high, (start.position, duration))
        position = self._clear(start.position, braked, found, duration)
        motion = Motion(position, (position - start.position) / duration)
        if self._reached(position, target):
            return Solution(motion, "", late=False)
        fast = np.abs(motion.velocity) > FAST * self._velocity
        if fast[arm.solved].any() and self._singular(position):
            return Solution(motion, self.reason(position, target), late=True)
        problem = self.far_problem(position, target) if check else ""
        return Solution(motion, problem, late=not problem)

    def goal(self, start: Motion, before: Pose, target: Pose, duration: float) -> Pose:
        """The target, less of what the tool lags behind the target before as it could not brake.

        A tool that hurried to where it should have been long ago would go beyond it.

        Args:
            start: The joints before.
            before: The tool's pose that was wanted then.
            target: The one that is wanted now.
            duration: Time between them [s].
        """
        reached = self.arm.tool_pose(start.position)
        length, angle = reached.distances(before)
        kept = 1 - self._share(length, self._braking, duration)
        position = target.position - kept * (before.position - reached.position)
        if angle <= SMALL_LAG:
            return Pose(position, target.rotation)
        kept = 1 - self._share(angle, self._braking / LEVER, duration)
        turned = rotation_matrix("axis-angle", -kept * reached.rotation_to(before))
        return Pose(position, turned @ target.rotation)

    def _share(self, lag: float, braking: float, duration: float) -> float:
        """Share of a lag that may be made up for in one step."""
        return float(brakable(np.array(lag), braking, duration)) / lag if lag > SMALL_LAG else 1.0

    def braked(self, start: Motion, duration: float) -> Motion:
        """Where the joints are after braking, each for itself, for one step of a duration [s]."""
        left = np.maximum(np.abs(start.velocity) - duration * self._acceleration, 0.0)
        velocity = np.sign(start.velocity) * left
        return Motion(start.position + duration * velocity, velocity)

    def to_rest(self, start: Motion, duration: float) -> list[Motion]:
        """Every `duration` [s] on the way to rest, the last one at rest."""
        motions: list[Motion] = []
        while start.velocity.any():
            start = self.braked(start, duration)
            motions.append(start)
        return motions

    def _reach(self, start: Motion, duration: float) -> tuple[Vector, Vector]:
        """Lowest and highest positions that speed and acceleration allow, each of shape (J,)."""
        change = self._acceleration * duration
        lowest = np.maximum(start.velocity - change, -self._velocity)
        highest = np.minimum(start.velocity + change, self._velocity)
        return start.position + duration * lowest, start.position + duration * highest

    def _room(self, room: Vector, duration: float) -> Vector:
        return brakable(room, self._acceleration, duration)

    def far_problem(self, start: Vector, target: Pose) -> str:
        """Why a pose could not be had even with all the time of the world, empty if it could."""
        arm = self.arm
        low, high = np.minimum(arm.low, start), np.maximum(arm.high, start)
        position = self._descend(start, target, low, high)
        return "" if self._reached(position, target) else self.reason(position, target)

    def reason(self, position: Vector, target: Pose) -> str:
        """What keeps the tool from a pose, with the joints where they come nearest to it."""
        arm = self.arm
        way, turn = arm.tool_pose(position).distances(target)
        x, y, z = target.position
        found = f"the tool cannot be at ({x:.3f}, {y:.3f}, {z:.3f}) m as wanted: {way:.3f} m"
        if arm.config.demands_rotation:
            found += f" and {turn:.2f} rad"
        causes = [
            f"joint {arm.names[joint]} is at its limit"
            for joint in arm.solved
            if not arm.low[joint] + SMALL_STEP < position[joint] < arm.high[joint] - SMALL_STEP
        ]
        distance, parts = arm.distance(position)
        if distance < arm.config.clearance + 2 * ROUNDING:
            causes.append(f"{parts} are {max(distance, 0):.3f} m apart")
        if self._singular(position):
            causes.append("the arm is stretched out, or two of its axes are in line (singular)")
        return f"{found} remain; {'; '.join(causes) or 'it is out of reach'}"

    def _descend(
        self,
        first: Vector,
        target: Pose,
        low: Vector,
        high: Vector,
        since: tuple[Vector, float] | None = None,
    ) -> Vector:
        """Joint positions in [low, high] that come nearest to a pose.

        Args:
            first: Where to begin, in [low, high], shape (J,).
            target: The pose.
            low: Shape (J,).
            high: Shape (J,).
            since: Where the joints were, and how long ago [s], if they have to be able to brake.
        """
        mink, arm = self._mink, self.arm
        world = target.out_of(arm.base)
        self._task.set_target(
            mink.SE3.from_rotation_and_translation(
                mink.SO3.from_matrix(world.rotation), world.position
            )
        )
        position: Vector = np.array(first)
        if self._contacts is not None:
            before, duration = since or (first, np.inf)
            self._configuration.update(arm.qpos(before))
            self._contacts.begin(self._configuration, duration)
        for _ in range(MAX_ITERATIONS):
            self._configuration.update(arm.qpos(position))
            if self._near(self._task.compute_error(self._configuration)):
                break
            solved = position[arm.solved]
            self._box.low = np.maximum(low[arm.solved] - solved, -LARGEST_STEP)
            self._box.high = np.minimum(high[arm.solved] - solved, LARGEST_STEP)
            problem = mink.build_ik(
                self._configuration,
                [self._task, self._posture],
                1.0,
                DAMPING,
                self._limits,
                self._frozen,
            )
            result = self._qpsolvers.solve_problem(problem, solver="daqp")
            if not result.found:
                break
            step = result.x[arm.dofs]
            position[arm.solved] = np.minimum(
                np.maximum(solved + step, low[arm.solved]), high[arm.solved]
            )
            if np.abs(step).max() < SMALL_STEP:
                break
        return position

    def _near(self, error: Vector) -> bool:
        config = self.arm.config
        turned = not config.rotation_weight or (
            np.linalg.norm(error[3:]) < PRECISION * config.rotation_tolerance
        )
        return bool(np.linalg.norm(error[:3]) < PRECISION * config.position_tolerance and turned)

    def _reached(self, position: Vector, target: Pose) -> bool:
        """Whether the tool is at the pose, within the tolerances."""
        config = self.arm.config
        way, turn = self.arm.tool_pose(position).distances(target)
        turned = not config.demands_rotation or turn <= config.rotation_tolerance
        return way <= config.position_tolerance and turned

    def _clear(self, start: Vector, braked: Vector, position: Vector, duration: float) -> Vector:
        """The position, or one nearer to braking, from where braking touches nothing."""
        arm = self.arm
        if not arm.pairs:
            return position
        least = min(arm.config.clearance - ROUNDING, arm.distance(start)[0])
        for halving in range(HALVINGS):
            tried = braked + (position - braked) / 2**halving
            motion = Motion(tried, (tried - start) / duration)
            way = [tried, *(one.position for one in self.to_rest(motion, duration))]
            if all(arm.distance(one)[0] >= least for one in way):
                return tried
        return braked

    def _singular(self, position: Vector) -> bool:
        config = self.arm.config
        smallest = self.arm.smallest_singular_value(position, config.demands_rotation)
        return smallest < config.singularity
