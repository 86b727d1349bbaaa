"""One control step: chunks and measurements in, a command that keeps every limit out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .check import CommandCheck
from .events import Event, EventKind, Mailbox, Mode, Output, Request, RobotState
from .limiter import Limiter
from .limits import Limits, Motion, Vector, Workspace
from .stitcher import StitchConfig, Stitcher
from .trajectory import ChunkRules, chunk_problem

SHORTEST_PERIOD = 1e-4  # [s]
LONGEST_LATENCY = 1.0  # [s]


@dataclass(frozen=True)
class ControllerConfig:
    """Limits and times of a control loop; limits have no default.

    Attributes:
        limits: Joint limits.
        dt: Control period [s].
        workspace: Box for the tool, None for none.
        stitch: How chunks follow each other.
        rules: What a chunk has to satisfy.
        action_latency: Time from sending a command to the joint's reaction [s], per joint; the
            waypoint for time t is sent that much earlier. Empty means none.
        stale_timeout: Age of the newest chunk's observation at which the robot brakes [s].
        state_timeout: Age of a measurement at which the robot stops for good [s].
        tracking_error: Largest distance of a joint from its command, per joint; empty means no
            check.
        tracking_time: How long the distance may be exceeded [s].
        slow_start: Time over which the speed rises to its full value after arming [s].
        speed: Share of the velocity limits that is used at most, in (0, 1].
    """

    limits: Limits
    dt: float
    workspace: Workspace | None = None
    stitch: StitchConfig = field(default_factory=StitchConfig)
    rules: ChunkRules = field(default_factory=ChunkRules)
    action_latency: tuple[float, ...] = ()
    stale_timeout: float = 0.5
    state_timeout: float = 0.1
    tracking_error: tuple[float, ...] = ()
    tracking_time: float = 0.1
    slow_start: float = 0.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        """Reject what could not run, or could not stop."""
        self._check_times()
        self._check_joints()
        if not 0 < self.speed <= 1 or not 0 <= self.slow_start < np.inf:
            raise ValueError(
                f"speed must be in (0, 1] and slow_start 0 s or more, got {self.speed} and "
                f"{self.slow_start}"
            )

    def _check_times(self) -> None:
        if 0 < self.dt < SHORTEST_PERIOD:
            raise ValueError(
                f"dt {self.dt} s is shorter than any loop keeps, at least {SHORTEST_PERIOD} s"
            )
        for name in ("dt", "stale_timeout", "state_timeout", "tracking_time"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be a positive time in s, got {getattr(self, name)}")
        for name in ("stale_timeout", "state_timeout"):
            if not self.dt < getattr(self, name):
                raise ValueError(
                    f"{name} must be longer than the control period dt of {self.dt} s, got "
                    f"{getattr(self, name)}"
                )

    def _check_joints(self) -> None:
        joints = self.limits.num_joints
        for name in ("action_latency", "tracking_error"):
            values = getattr(self, name)
            found = np.asarray(values)
            if len(values) not in (0, joints) or not ((found >= 0) & np.isfinite(found)).all():
                raise ValueError(f"{name} needs {joints} values of 0 or more, got {values}")
        if max(self.action_latency, default=0.0) > LONGEST_LATENCY:
            raise ValueError(
                f"action_latency must be at most {LONGEST_LATENCY} s, got {self.action_latency}"
            )
        if self.workspace and len(self.workspace.chain.axes) != joints:
            raise ValueError(
                f"the workspace's chain has {len(self.workspace.chain.axes)} joints, the robot "
                f"{joints}"
            )


# Share of the speed that a slow start begins with.
SLOWEST = 0.05
EMPTY = Mailbox()


class Controller:
    """The state machine idle, armed, run, hold, stop around a limited command stream.

    `step` reads no clock and touches no device: the same inputs give the same commands, bit for
    bit, which is how a log is recomputed. The command moves on by exactly one period per call, so
    cycles that are lost make the robot slower, never faster.
    """

    def __init__(self, config: ControllerConfig) -> None:
        self.config = config
        self.mode = Mode.IDLE
        self._limiter = Limiter(config.limits, config.dt, config.workspace)
        self._check = CommandCheck(config.limits, config.dt, config.workspace)
        self._stitcher = Stitcher(config.stitch)
        self._motion = Motion.at_rest(np.zeros(config.limits.num_joints))
        latency = config.action_latency or (0.0,) * config.limits.num_joints
        self._latencies = [(value, np.equal(latency, value)) for value in sorted(set(latency))]
        self._now = -np.inf
        self._armed = False
        self._armed_at = self._tracked_at = 0.0
        self._sequence, self._observed_at = -1, -np.inf
        self._starved = False
        self._hits: frozenset[EventKind] = frozenset()
        self._events: list[Event] = []

    @property
    def resting(self) -> bool:
        """Whether the command stands still."""
        return self._motion.resting

    @property
    def peaks(self) -> list[float]:
        """Largest commanded velocity, acceleration and jerk so far, as shares of the limits."""
        return self._check.peaks

    def step(self, now: float, state: RobotState, mailbox: Mailbox = EMPTY) -> Output:
        """Advance by one control period.

        Args:
            now: Time of this cycle [s], rising.
            state: Newest measurement.
            mailbox: Chunk and request that came in since the previous call.
        """
        self._events = []
        self._supervise(now, state)
        self._obey(now, state, mailbox.request)
        if mailbox.chunk is not None:
            self._receive(now, mailbox)
        reference = self._advance(now)
        self._now = max(now, self._now)
        command = self._motion if self._armed else None
        age = now - self._observed_at
        return Output(command, tuple(self._events), self.mode, reference, self._sequence, age)

    def _say(self, kind: EventKind, text: str) -> None:
        self._events.append(Event(kind, text))

    def _enter(self, mode: Mode, reason: str = "") -> None:
        if mode is self.mode:
            return
        text = f"{self.mode.name} -> {mode.name}" + (f": {reason}" if reason else "")
        self._say(EventKind.STOPPED if mode is Mode.STOP else EventKind.MODE, text)
        self.mode = mode

    def _supervise(self, now: float, state: RobotState) -> None:
        """Stop if the clock, the measurement or the robot is not right."""
        if self.mode in (Mode.IDLE, Mode.STOP):
            return
        if not now > self._now:
            self._enter(Mode.STOP, f"the clock went from {self._now} to {now}")
        elif problem := self._state_problem(now, state):
            self._enter(Mode.STOP, problem)
        elif self.config.tracking_error:
            error = np.abs(state.position - self._motion.position)
            if (error <= self.config.tracking_error).all():
                self._tracked_at = now
            elif now - self._tracked_at > self.config.tracking_time:
                joint = int(np.argmax(error - self.config.tracking_error))
                self._enter(Mode.STOP, f"joint {joint} is {error[joint]:.4f} away from its command")

    def _state_problem(self, now: float, state: RobotState) -> str:
        if state.fault:
            return state.fault
        if not (np.isfinite(state.position).all() and np.isfinite(state.velocity).all()):
            return "the robot's state holds NaN or infinity"
        if not now - state.time <= self.config.state_timeout:
            return f"the robot's state is {now - state.time:.3f} s old"
        return ""

    def _obey(self, now: float, state: RobotState, request: Request) -> None:
        if request is Request.STOP:
            self._enter(Mode.STOP, "requested")
        elif request is Request.RESET and self.mode is Mode.STOP:
            if self._motion.resting:
                self._armed = False
                self._enter(Mode.IDLE, "reset")
            else:
                self._say(EventKind.REFUSED, "reset: the robot is still braking")
        elif request is Request.ARM and self.mode is Mode.IDLE:
            problem = self._state_problem(now, state)
            problem = problem or self._limiter.start_problem(state.position)
            if problem:
                self._say(EventKind.REFUSED, f"arm: {problem}")
                return
            # The first command is where the robot is: nothing jumps.
            self._motion = Motion.at_rest(state.position)
            self._check.restart(self._motion.position)
            self._stitcher.clear()
            self._armed, self._armed_at, self._tracked_at = True, now, now
            self._enter(Mode.ARMED)

    def _receive(self, now: float, mailbox: Mailbox) -> None:
        chunk = mailbox.chunk
        assert chunk is not None
        if self.mode in (Mode.IDLE, Mode.STOP):
            return
        problem = chunk_problem(chunk, now, self.config.limits.arrays, self.config.rules)
        if not problem and chunk.sequence <= self._sequence:
            problem = f"order: number {chunk.sequence} after {self._sequence}"
        if problem:
            self._say(EventKind.CHUNK_REJECTED, f"chunk {chunk.sequence}: {problem}")
            return
        self._sequence, self._observed_at = chunk.sequence, chunk.observed_at
        if self.mode is not Mode.RUN:
            # What was planned before the robot braked is over.
            self._stitcher.clear()
        self._stitcher.add(chunk, now, self._motion.position)
        self._starved = False

    def _advance(self, now: float) -> Vector:
        """Move the command on by one period and return the reference."""
        if not self._armed:
            # Stopped or not, a robot that was never armed is sent nothing.
            return self._motion.position
        stale = now - self._observed_at > self.config.stale_timeout
        # A command takes effect one period after the one before it.
        due = now + self.config.dt
        if self.mode is Mode.RUN and stale:
            self._enter(Mode.HOLD, f"no chunk for {now - self._observed_at:.3f} s")
        elif self.mode in (Mode.ARMED, Mode.HOLD) and not stale and self._stitcher.covers(due):
            self._enter(Mode.RUN)
        if self.mode is not Mode.RUN:
            self._send(self._limiter.brake(self._motion))
            return self._motion.position
        reference, velocity = self._reference(due)
        if due > self._stitcher.end and not self._starved:
            self._starved = True
            self._say(EventKind.STARVED, "the plan ended before the next one came")
        share = (now - self._armed_at) / self.config.slow_start if self.config.slow_start else 1.0
        speed = self.config.speed * min(max(share, SLOWEST), 1.0)
        limited = self._limiter.step(self._motion, reference, velocity, speed)
        hits = {
            EventKind.CLIPPED: bool(limited.clipped.any()),
            EventKind.GUARDED: bool(limited.guarded.any()),
            EventKind.WORKSPACE: limited.workspace,
        }
        active = frozenset(kind for kind, hit in hits.items() if hit)
        for kind in sorted(active - self._hits):
            self._say(kind, LIMIT_TEXTS[kind])
        self._hits = active
        self._send(limited.motion)
        return reference

    def _reference(self, due: float) -> tuple[Vector, Vector]:
        position, velocity = self._stitcher.at(due + self._latencies[0][0])
        for latency, joints in self._latencies[1:]:
            other = self._stitcher.at(due + latency)
            position = np.where(joints, other[0], position)
            velocity = np.where(joints, other[1], velocity)
        return position, velocity

    def _send(self, motion: Motion) -> None:
        """Take over a command if it passes the last check; otherwise keep the previous one."""
        problem = self._check.problem(motion.position)
        if problem:
            self._say(EventKind.LIMIT_VIOLATION, problem)
            self._enter(Mode.STOP, f"command beyond its {problem}")
            return
        self._motion = motion


LIMIT_TEXTS = {
    EventKind.CLIPPED: "a waypoint lies outside the position limits",
    EventKind.GUARDED: "braked before a position limit",
    EventKind.WORKSPACE: "held back at the edge of the workspace",
}
