"""Joint positions that bring the tool to a pose: differential inverse kinematics by mink."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...decoding.plumbing.extras import require
from ..core.limits import Vector
from .arm import FAR, Arm
from .model import TOOL
from .pose import Pose

MAX_ITERATIONS = 30
LARGEST_STEP = 0.15  # Per iteration and joint [rad or m]: the Jacobian holds for little more.
SMALL_STEP = 1e-5  # An iteration that moves no joint further is the last one [rad or m].
PRECISION = 0.001  # Share of the tolerances that is near enough.
POSTURE_COST = 1e-3  # Of 1 rad away from the posture that the arm keeps if it may choose [m/rad].
TASK_DAMPING, DAMPING = 1e-2, 1e-8
CONTACT_GAIN = 0.85  # Share of the room before a contact that one iteration may take.
ROUNDING = 1e-3  # How far a linearised contact may come out below the clearance [m].
HALVINGS = 5


class Solution(NamedTuple):
    """Where the joints are to be for a pose.

    Attributes:
        position: Joint positions, shape (J,).
        problem: Why the pose cannot be had, empty if it can, or may once the joints catch up.
        late: Whether the joints are too slow to be there in time.
    """

    position: Vector
    problem: str
    late: bool


class Box:
    """How far each solved joint may go in one iteration, as an inequality for mink.

    Attributes:
        low: Shape (n,), at most 0.
        high: Shape (n,), at least 0.
    """

    def __init__(self, mink: Any, arm: Arm) -> None:
        self.low = self.high = np.zeros(len(arm.dofs))
        self._make = mink.limits.Constraint
        self._rows: Vector = np.eye(arm.model.nv)[arm.dofs]

    def compute_qp_inequalities(self, configuration: Any, dt: float) -> Any:
        """The inequality G dq <= h, by mink's name for it."""
        del configuration, dt
        rows = np.vstack([self._rows, -self._rows])
        return self._make(G=rows, h=np.concatenate([self.high, -self.low]))


class Solver:
    """Brings a tool from pose to pose within joint limits, speeds, clearances and planes.

    Each pose takes a few quadratic programs, each linearised where the one before ended. What
    comes out is measured anew on the model: a program that was solved is not yet a pose.

    Args:
        arm: The arm.
        velocity: Largest speed of each joint [rad/s or m/s], shape (J,).
    """

    def __init__(self, arm: Arm, velocity: Vector) -> None:
        mink: Any = require("mink", "ik")
        require("daqp", "ik")
        self._qpsolvers: Any = require("qpsolvers", "ik")
        self.arm, self._velocity, self._mink = arm, velocity, mink
        config, model = arm.config, arm.model
        self._configuration: Any = mink.Configuration(model)
        self._task: Any = mink.FrameTask(
            TOOL, "site", 1.0, config.rotation_weight, lm_damping=TASK_DAMPING
        )
        self._posture: Any = mink.PostureTask(model, POSTURE_COST)
        self._posture.set_target(model.qpos0)
        self._box = Box(mink, arm)
        self._limits: list[Any] = [self._box]
        if arm.pairs:
            apart = [([first], [second]) for first, second in arm.pairs]
            self._limits.append(
                mink.CollisionAvoidanceLimit(
                    model, apart, CONTACT_GAIN, config.clearance, config.clearance + FAR
                )
            )
        self._frozen = [mink.DofFreezingTask(model, arm.frozen)] if arm.frozen else None

    def prefer(self, position: Vector) -> None:
        """Stay near the posture of `position`, shape (J,), where a pose leaves a choice."""
        self._posture.set_target(self.arm.qpos(position))

    def solve(self, start: Vector, target: Pose, duration: float) -> Solution:
        """Joint positions for a pose, as near to it as the joints come in the given time.

        Args:
            start: Joint positions before, shape (J,).
            target: The tool's pose in the base.
            duration: Time from there to here [s].
        """
        arm = self.arm
        if not (np.isfinite(target.position).all() and np.isfinite(target.rotation).all()):
            return Solution(np.array(start), f"the pose wanted is not finite: {target}", late=False)
        way = self._velocity * duration
        slow_low, slow_high = start - way, start + way
        low = np.minimum(np.maximum(arm.low, slow_low), start)
        high = np.maximum(np.minimum(arm.high, slow_high), start)
        position = self._clear(start, self._descend(start, target, low, high))
        if self._reached(position, target):
            return Solution(position, "", late=False)
        hurried = (position <= slow_low + SMALL_STEP) | (position >= slow_high - SMALL_STEP)
        late = bool(hurried[arm.solved].any())
        if late and not self._singular(position):
            return Solution(position, "", late=True)
        return Solution(position, self.reason(position, target), late)

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

    def _descend(self, start: Vector, target: Pose, low: Vector, high: Vector) -> Vector:
        """Joint positions in [low, high] that come nearest to a pose."""
        mink, arm = self._mink, self.arm
        world = target.out_of(arm.base)
        self._task.set_target(
            mink.SE3.from_rotation_and_translation(
                mink.SO3.from_matrix(world.rotation), world.position
            )
        )
        position: Vector = np.array(start)
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

    def _clear(self, start: Vector, position: Vector) -> Vector:
        """The last position on the way there that keeps the clearance, as far as the start did."""
        arm = self.arm
        if not arm.pairs:
            return position
        least = min(arm.config.clearance - ROUNDING, arm.distance(start)[0])
        for halving in range(HALVINGS):
            tried = start + (position - start) / 2**halving
            if arm.distance(tried)[0] >= least:
                return tried
        return start

    def _singular(self, position: Vector) -> bool:
        config = self.arm.config
        smallest = self.arm.smallest_singular_value(position, config.demands_rotation)
        return smallest < config.singularity
