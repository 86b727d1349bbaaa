"""The limiter in numpy, all joints at once: slower, and the reference for plain floats."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import ruckig
from numpy.typing import NDArray

from hotloop.real_robot.core.limits import Limits, Motion, Vector, Workspace

Flags = NDArray[np.bool_]


class Brake(NamedTuple):
    """A stop of all joints.

    Attributes:
        start: Motion that the stop begins with.
        jerk: Signed jerk of the last phase, minus that of the first, shape (D,).
        durations: Duration of the three phases [s], shape (3, D).
    """

    start: Motion
    jerk: Vector
    durations: Vector

    @property
    def duration(self) -> float:
        """Time until the last joint stands still [s]."""
        return float(self.durations.sum(axis=0).max())

    def at(self, time: float | Vector) -> Motion:
        """Motion after `time` [s], a number or an array of shape (K, 1)."""
        position, velocity, acceleration = self.start
        left = time
        for sign, duration in zip((-1.0, 0.0, 1.0), self.durations, strict=True):
            t = np.minimum(np.maximum(left, 0.0), duration)
            jerk = sign * self.jerk
            position = position + t * (velocity + t * (acceleration / 2 + t * (jerk / 6)))
            velocity = velocity + t * (acceleration + t * (jerk / 2))
            acceleration = acceleration + t * jerk
            left = left - duration
        return Motion(position, velocity, acceleration)

    def step(self, dt: float) -> Motion:
        """Motion after one control period; a joint whose stop ends within it rests exactly."""
        motion = self.at(dt)
        done = self.durations.sum(axis=0) <= dt
        return Motion(
            motion.position,
            np.where(done, 0.0, motion.velocity),
            np.where(done, 0.0, motion.acceleration),
        )

    def extent(self) -> tuple[Vector, Vector]:
        """Smallest and largest position on the way, each of shape (D,)."""
        position, velocity, acceleration = self.start
        end = self.at(np.inf).position
        # A joint that still moves the other way turns where its velocity crosses zero, and it
        # does so in the first phase.
        direction = np.sign(self.jerk)
        backward = -direction * velocity
        forward_pull = direction * acceleration
        turns = (backward > 0) & (forward_pull > 0)
        root = forward_pull - np.sqrt(
            np.maximum(forward_pull**2 - 2 * np.abs(self.jerk) * backward, 0.0)
        )
        time = np.where(turns, root / np.where(turns, np.abs(self.jerk), 1.0), 0.0)
        turn = position + time * (velocity + time * (acceleration / 2 - time * self.jerk / 6))
        low = np.minimum(np.minimum(position, end), turn)
        return low, np.maximum(np.maximum(position, end), turn)

    def peak_speed(self) -> Vector:
        """Largest speed on the way, shape (D,): an acceleration in progress has to be undone."""
        _, velocity, acceleration = self.start
        ramp = velocity + acceleration * np.abs(acceleration) / (2 * np.abs(self.jerk))
        return np.maximum(np.abs(velocity), np.abs(ramp))


def brake(motion: Motion, acceleration: Vector, jerk: Vector) -> Brake:
    """Plan the quickest stop from `motion`.

    Args:
        motion: Where the stop begins; its acceleration is within the limit.
        acceleration: Limit per joint, shape (D,).
        jerk: Limit per joint, shape (D,).
    """
    # Velocity that is left if only the acceleration is brought to zero; its sign tells which way
    # the joint has to be pushed.
    left = motion.velocity + motion.acceleration * np.abs(motion.acceleration) / (2 * jerk)
    sign = np.where(left < 0, -1.0, 1.0)
    v, a = sign * motion.velocity, sign * motion.acceleration
    deceleration = np.minimum(np.sqrt(np.maximum(jerk * v + a * a / 2, 0.0)), acceleration)
    first = np.maximum((a + deceleration) / jerk, 0.0)
    hold = (v + a * a / (2 * jerk) - deceleration * deceleration / jerk) / acceleration
    hold = np.where(deceleration < acceleration, 0.0, np.maximum(hold, 0.0))
    return Brake(motion, sign * jerk, np.stack([first, hold, deceleration / jerk]))


# Points of a stop whose tool position is computed; what happens between them is bounded.
NUM_SAMPLES = 9
# Ruckig meets limits up to rounding; so does the guard.
SLACK = 1 + 1e-9
# Velocity of targets, as a share of the limit: what is left is for catching up with them.
FASTEST_TARGET = 0.9
# Distance of targets from a position limit, as a share of the joint's range.
MARGIN = 1e-6


class Limited(NamedTuple):
    """One limited step.

    Attributes:
        motion: The next command.
        clipped: Joints whose target lay outside of the position limits, shape (D,).
        guarded: Joints that braked because the target's profile was not safe, shape (D,).
        workspace: Whether the workspace held the step back.
    """

    motion: Motion
    clipped: Flags
    guarded: Flags
    workspace: bool


class Limiter:
    """Limits position, velocity, acceleration, jerk and workspace of a command stream.

    Args:
        limits: Joint limits.
        dt: Control period [s].
        workspace: Box that the tool has to stay in.
    """

    def __init__(self, limits: Limits, dt: float, workspace: Workspace | None = None) -> None:
        self.limits, self.dt, self.workspace = limits, dt, workspace
        self._bounds = limits.arrays
        margin = MARGIN * (self._bounds.high - self._bounds.low)
        self._target_low, self._target_high = self._bounds.low + margin, self._bounds.high - margin
        self._ruckig: Any = ruckig
        size = limits.num_joints
        self._otg = self._ruckig.Ruckig(size, dt)
        self._trajectory = self._ruckig.Trajectory(size)
        self._input = self._ruckig.InputParameter(size)
        self._input.max_acceleration = limits.acceleration
        self._input.max_jerk = limits.jerk
        # The reference keeps the joints together; a joint that lags must not hold up the others.
        self._input.synchronization = self._ruckig.Synchronization.No

    def start_problem(self, position: Vector) -> str:
        """Why the robot may not start from `position`, empty if it may."""
        inside = (self._bounds.low <= position) & (position <= self._bounds.high)
        if not inside.all():
            joint = int(np.argmin(inside))
            return (
                f"joint {joint} is at {position[joint]:.4f}, outside its limits "
                f"[{self._bounds.low[joint]}, {self._bounds.high[joint]}]"
            )
        if self.workspace is not None and not self.workspace.clearance(position[None])[0] >= 0:
            return f"the tool is outside the workspace at joint positions {position}"
        return ""

    def brake(self, motion: Motion) -> Motion:
        """The next step of the quickest stop."""
        return self._brake(motion).step(self.dt)

    def step(self, motion: Motion, target: Vector, velocity: Vector, speed: float = 1.0) -> Limited:
        """Move towards a target.

        Args:
            motion: The previous command.
            target: Position to reach, shape (D,); finite.
            velocity: Velocity to reach it with, shape (D,); finite.
            speed: Share of the velocity limits that may be used, in (0, 1].
        """
        inside = np.minimum(np.maximum(target, self._target_low), self._target_high)
        clipped = inside != target
        target, moved = self._into_workspace(motion.position, inside)
        if moved:
            velocity = np.zeros_like(velocity)
        velocity = self._safe_velocity(target, velocity, self._bounds.velocity * speed)
        proposal = self._profile(motion, target, velocity, speed)
        if proposal is None:
            everything = np.ones(len(target), bool)
            return Limited(self.brake(motion), clipped, everything, moved)
        stop = self._brake(proposal)
        extent = stop.extent()
        guarded = ~self._joints_safe(stop, *extent)
        if guarded.any():
            retreat = self.brake(motion)
            proposal = Motion(
                *(np.where(guarded, b, p) for b, p in zip(retreat, proposal, strict=True))
            )
            stop = self._brake(proposal)
            extent = stop.extent()
        if not self._workspace_safe(stop, *extent):
            return Limited(self.brake(motion), clipped, guarded, True)
        return Limited(proposal, clipped, guarded, moved)

    def _brake(self, motion: Motion) -> Brake:
        return brake(motion, self._bounds.acceleration, self._bounds.jerk)

    def _profile(
        self, motion: Motion, target: Vector, velocity: Vector, speed: float
    ) -> Motion | None:
        """First step of Ruckig's profile, None if it finds none.

        The profile catches up with a target that goes on at its velocity, so it is computed beside
        the target, where that stands still. A profile to where the target is now, to be there
        with its velocity, would begin with a step back whenever the run-up is too short, and
        never arrive.
        """
        request, allowed = self._input, self._bounds.velocity * speed
        request.current_position = motion.position
        request.current_velocity = motion.velocity - velocity
        request.current_acceleration = motion.acceleration
        request.target_position = target - self.dt * velocity
        request.max_velocity, request.min_velocity = allowed - velocity, -allowed - velocity
        try:
            result = self._otg.calculate(request, self._trajectory)
        except (self._ruckig.RuckigError, ValueError):
            # Its binding does not know all of its result codes, e.g. -101, a profile of hours.
            return None
        if result not in (self._ruckig.Result.Working, self._ruckig.Result.Finished):
            return None
        position, relative, acceleration = map(np.asarray, self._trajectory.at_time(self.dt))
        return Motion(position + self.dt * velocity, relative + velocity, acceleration)

    def _safe_velocity(self, target: Vector, velocity: Vector, largest: Vector) -> Vector:
        """Target velocity within the limits; none where the robot could not stop after it."""
        largest = FASTEST_TARGET * largest
        velocity = np.minimum(np.maximum(velocity, -largest), largest)
        if not velocity.any():
            return velocity
        stop = self._brake(Motion(target, velocity, np.zeros_like(target)))
        end = stop.at(np.inf).position
        return np.where((self._target_low <= end) & (end <= self._target_high), velocity, 0.0)

    def _joints_safe(self, stop: Brake, low: Vector, high: Vector) -> Flags:
        """Joints whose stop, between `low` and `high`, keeps every limit, shape (D,)."""
        bounds = self._bounds
        return (
            (bounds.low <= low)
            & (high <= bounds.high)
            & (stop.peak_speed() <= bounds.velocity * SLACK)
            & (np.abs(stop.start.acceleration) <= bounds.acceleration * SLACK)
        )

    def _workspace_safe(self, stop: Brake, low: Vector, high: Vector) -> bool:
        """Whether the tool stays inside the workspace all along a stop from `low` to `high`."""
        if self.workspace is None:
            return True
        # Far from the edge a bound on how far the tool can get is enough.
        start = stop.start.position
        farthest = self.workspace.path_length(np.maximum(high - start, start - low))
        if self.workspace.clearance(start[None])[0] >= farthest:
            return True
        interval = stop.duration / (NUM_SAMPLES - 1)
        times: Vector = np.linspace(0.0, stop.duration, NUM_SAMPLES)[:, None]
        motion = stop.at(times)
        clearance = self.workspace.clearance(motion.position)
        # Between two samples a joint is nowhere faster than at the faster end plus what its
        # acceleration limit allows until the middle; a point in between is at most half the way
        # from a sample.
        speed = np.abs(motion.velocity)
        fastest = np.maximum(speed[1:], speed[:-1]) + self._bounds.acceleration * interval / 2
        slip = self.workspace.path_length(fastest * interval) / 2
        needed = np.maximum(np.append(slip, 0.0), np.insert(slip, 0, 0.0))
        return bool((clearance >= needed).all())

    def _into_workspace(self, position: Vector, target: Vector) -> tuple[Vector, bool]:
        """The farthest point towards `target` before the tool would leave the workspace."""
        if self.workspace is None or self.workspace.clearance(target[None])[0] >= 0:
            return target, False
        share = np.linspace(0.0, 1.0, 17)[:, None]
        line = position + share * (target - position)
        outside = self.workspace.clearance(line) < 0
        last = max(int(np.argmax(outside)) - 1, 0)
        return line[last], True
