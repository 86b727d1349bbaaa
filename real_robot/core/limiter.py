"""From a target to the next command: Ruckig for the profile, our own guard for the position.

Ruckig keeps velocity, acceleration and jerk, but it accepts a position limit without enforcing it.
The guard lets its step pass only if the robot could still stop inside the limits and the workspace
from there; otherwise the robot takes a step of the stop that the previous step had proven safe.
By induction no sequence of targets leads out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...decoding.plumbing.extras import require
from .brake import Stop, plan_stop, plan_stops, sample
from .limits import Floats, Limits, PlainMotion, Vector, Workspace

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
        clipped: Whether a joint's target lay outside of its position limits.
        guarded: Whether a joint braked because the target's profile was not safe.
        workspace: Whether the workspace held the step back.
    """

    motion: PlainMotion
    clipped: bool
    guarded: bool
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
        bounds = limits.arrays
        self._fastest: Floats = (bounds.velocity * SLACK).tolist()
        self._strongest: Floats = (bounds.acceleration * SLACK).tolist()
        margin = MARGIN * (bounds.high - bounds.low)
        self._target_low: Floats = (bounds.low + margin).tolist()
        self._target_high: Floats = (bounds.high - margin).tolist()
        self._ruckig: Any = require("ruckig", "control")
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
        limits = self.limits
        inside = (limits.arrays.low <= position) & (position <= limits.arrays.high)
        if not inside.all():
            joint = int(np.argmin(inside))
            return (
                f"joint {joint} is at {position[joint]:.4f}, outside its limits "
                f"[{limits.low[joint]}, {limits.high[joint]}]"
            )
        if self.workspace is not None and not self.workspace.clearance(position[None])[0] >= 0:
            return f"the tool is outside the workspace at joint positions {position}"
        return ""

    def brake(self, motion: PlainMotion) -> PlainMotion:
        """The next step of the quickest stop."""
        return _side_by_side([stop.after(self.dt) for stop in self._stops(motion)])

    def step(
        self, motion: PlainMotion, target: Floats, velocity: Floats, speed: float = 1.0
    ) -> Limited:
        """Move towards a target.

        Args:
            motion: The previous command.
            target: Position to reach, per joint; finite.
            velocity: Velocity to reach it with, per joint; finite.
            speed: Share of the velocity limits that may be used, in (0, 1].
        """
        inside = list(map(_clamp, target, self._target_low, self._target_high))
        clipped = inside != target
        inside, moved = self._into_workspace(motion.position, inside)
        if moved:
            velocity = [0.0] * len(velocity)
        largest = [bound * speed for bound in self.limits.velocity]
        velocity = self._safe_velocity(inside, velocity, largest)
        proposal = self._profile(motion, inside, velocity, largest)
        if proposal is None:
            return Limited(self.brake(motion), clipped, True, moved)
        stops = self._stops(proposal)
        extents = [stop.extent() for stop in stops]
        safe = self._joints_safe(stops, extents)
        if not all(safe):
            proposal, stops = self._guard(motion, proposal, safe)
            extents = [stop.extent() for stop in stops]
        if not self._workspace_safe(stops, extents):
            return Limited(self.brake(motion), clipped, not all(safe), True)
        return Limited(proposal, clipped, not all(safe), moved)

    def _stops(self, motion: PlainMotion) -> list[Stop]:
        return plan_stops(motion, self.limits.acceleration, self.limits.jerk)

    def _guard(
        self, motion: PlainMotion, proposal: PlainMotion, safe: list[bool]
    ) -> tuple[PlainMotion, list[Stop]]:
        """Let the joints whose proposal is not safe brake instead."""
        retreat = self.brake(motion)
        chosen = [
            ours if good else theirs
            for good, ours, theirs in zip(
                safe, zip(*proposal, strict=True), zip(*retreat, strict=True), strict=True
            )
        ]
        guarded = _side_by_side(chosen)
        return guarded, self._stops(guarded)

    def _profile(
        self, motion: PlainMotion, target: Floats, velocity: Floats, largest: Floats
    ) -> PlainMotion | None:
        """First step of Ruckig's profile, None if it finds none.

        The profile catches up with a target that goes on at its velocity, so it is computed beside
        the target, where that stands still. A profile to where the target is now, to be there
        with its velocity, would begin with a step back whenever the run-up is too short, and
        never arrive.
        """
        request, dt = self._input, self.dt
        request.current_position = motion.position
        request.current_velocity = [v - w for v, w in zip(motion.velocity, velocity, strict=True)]
        request.current_acceleration = motion.acceleration
        request.target_position = [x - dt * w for x, w in zip(target, velocity, strict=True)]
        request.max_velocity = [v - w for v, w in zip(largest, velocity, strict=True)]
        request.min_velocity = [-v - w for v, w in zip(largest, velocity, strict=True)]
        try:
            result = self._otg.calculate(request, self._trajectory)
        except (self._ruckig.RuckigError, ValueError):
            # Its binding does not know all of its result codes, e.g. -101, a profile of hours.
            return None
        if result not in (self._ruckig.Result.Working, self._ruckig.Result.Finished):
            return None
        position, relative, acceleration = self._trajectory.at_time(dt)
        return PlainMotion(
            [x + dt * w for x, w in zip(position, velocity, strict=True)],
            [v + w for v, w in zip(relative, velocity, strict=True)],
            acceleration,
        )

    def _safe_velocity(self, target: Floats, velocity: Floats, largest: Floats) -> Floats:
        """Target velocity within the limits; none where the robot could not stop after it."""
        limits, safe = self.limits, list[float]()
        for joint, wanted in enumerate(velocity):
            cap = FASTEST_TARGET * largest[joint]
            found = _clamp(wanted, -cap, cap)
            if found:
                bounds = limits.acceleration[joint], limits.jerk[joint]
                end = plan_stop(target[joint], found, 0.0, *bounds).end()
                if not self._target_low[joint] <= end <= self._target_high[joint]:
                    found = 0.0
            safe.append(found)
        return safe

    def _joints_safe(self, stops: list[Stop], extents: list[tuple[float, float]]) -> list[bool]:
        """Joints whose stop keeps every limit."""
        limits = self.limits
        return [
            bottom <= low
            and high <= top
            and stop.peak_speed() <= fastest
            and abs(stop.acceleration) <= strongest
            for stop, (low, high), bottom, top, fastest, strongest in zip(
                stops, extents, limits.low, limits.high, self._fastest, self._strongest, strict=True
            )
        ]

    def _workspace_safe(self, stops: list[Stop], extents: list[tuple[float, float]]) -> bool:
        """Whether the tool stays inside the workspace all along a stop."""
        if self.workspace is None:
            return True
        # Far from the edge a bound on how far the tool can get is enough.
        start = [stop.position for stop in stops]
        ways = [max(high - x, x - low) for x, (low, high) in zip(start, extents, strict=True)]
        if self.workspace.clearance_at(start) >= self.workspace.farthest(ways):
            return True
        duration = max(stop.duration for stop in stops)
        interval = duration / (NUM_SAMPLES - 1)
        position, velocity = sample(stops, np.linspace(0.0, duration, NUM_SAMPLES))
        clearance = self.workspace.clearance(position)
        # Between two samples a joint is nowhere faster than at the faster end plus what its
        # acceleration limit allows until the middle; a point in between is at most half the way
        # from a sample.
        speed = np.abs(velocity)
        bound = self.limits.arrays.acceleration * interval / 2
        fastest = np.maximum(speed[1:], speed[:-1]) + bound
        slip = self.workspace.path_length(fastest * interval) / 2
        needed = np.maximum(np.append(slip, 0.0), np.insert(slip, 0, 0.0))
        return bool((clearance >= needed).all())

    def _into_workspace(self, position: Floats, target: Floats) -> tuple[Floats, bool]:
        """The farthest point towards `target` before the tool would leave the workspace."""
        if self.workspace is None or self.workspace.clearance_at(target) >= 0:
            return target, False
        start = np.array(position)
        share = np.linspace(0.0, 1.0, 17)[:, None]
        line = start + share * (np.array(target) - start)
        outside = self.workspace.clearance(line) < 0
        last = max(int(np.argmax(outside)) - 1, 0)
        return line[last].tolist(), True


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _side_by_side(joints: list[tuple[float, float, float]]) -> PlainMotion:
    """A motion from position, velocity and acceleration of each joint."""
    return PlainMotion(*map(list, zip(*joints, strict=True)))
