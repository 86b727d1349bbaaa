"""One control step: chunks and measurements in, a command that keeps every limit out."""

from __future__ import annotations

from operator import sub

import numpy as np

from .check import CommandCheck
from .controller_config import ControllerConfig
from .events import Event, EventKind, Mailbox, Mode, Output, Request, RobotState
from .limiter import Limiter
from .limits import Floats, PlainMotion
from .stitcher import Stitcher
from .trajectory import Chunk, Reference, chunk_problem
from .watch import RobotWatch

# Share of the speed that a slow start begins with.
SLOWEST = 0.05
# Periods between two steps above which cycles were lost, and below which a step came too soon.
GAP, BURST = 1.5, 0.5
# Shares of the limits below which a joint stands: a profile ends with what rounding leaves.
STILL = 1e-9
EMPTY = Mailbox()


class Controller:
    """The state machine idle, armed, run, hold, stop around a limited command stream.

    `step` reads no clock and touches no device: the same inputs give the same commands, bit for
    bit, which is how a log is recomputed.

    The limits hold in time. A command moves on by one period per step, and steps that come faster
    than that repeat it. After a gap, and after a command that was not sent, the robot has held its
    last goal: the next command starts there, from rest. What cannot be limited is how the robot
    itself comes to that halt while nobody sends it anything.
    """

    def __init__(self, config: ControllerConfig) -> None:
        self.config = config
        self.mode = Mode.IDLE
        self._limiter = Limiter(config.limits, config.dt, config.workspace)
        self._check = CommandCheck(config.limits, config.dt, config.workspace)
        self._stitcher = Stitcher(config.stitch)
        self._watch = RobotWatch(config)
        self._motion = PlainMotion.at_rest([0.0] * config.limits.num_joints)
        # The command before the newest one; where a stop has to go yet, and whether it has to.
        self._previous = self._motion
        self._yield_to: Floats | None = None
        self._must_yield = self._may_yield = False
        latency = config.action_latency or (0.0,) * config.limits.num_joints
        self._latencies = sorted(set(latency))
        # Index of each joint's latency among them.
        self._reactions = [self._latencies.index(value) for value in latency]
        # Time of the last step, and when the next one is due.
        self._now = self._due = -np.inf
        self._armed = False
        self._armed_at = 0.0
        self._sequence, self._observed_at = -1, -np.inf
        self._starved = False
        self._hits: frozenset[EventKind] = frozenset()
        self._events: list[Event] = []

    @property
    def resting(self) -> bool:
        """Whether the command stands still, and will until it is asked to move again."""
        return self._motion.resting and not self._must_yield and self._yield_to is None

    @property
    def peaks(self) -> list[float]:
        """Largest commanded velocity, acceleration and jerk so far, as shares of the limits."""
        return self._check.peaks

    def start_problem(self, now: float, state: RobotState) -> str:
        """Why the robot may not be armed as it is, empty if it may."""
        problem = self._watch.state_problem(now, state)
        return problem or self._limiter.start_problem(state.position)

    def step(self, now: float, state: RobotState, mailbox: Mailbox = EMPTY) -> Output:
        """Advance by one control period.

        Args:
            now: Time of this cycle [s], rising.
            state: Newest measurement.
            mailbox: Chunk and request that came in since the previous call.
        """
        self._events = []
        self._resume(now, mailbox.unsent)
        self._previous = self._motion
        self._watch.note(now, state)
        self._supervise(now, state)
        self._obey(now, state, mailbox.request, mailbox.reason)
        if mailbox.chunk is not None:
            self._receive(now, state.time, mailbox.chunk)
        reference = self._advance(now, state)
        if now > self._now:
            self._now = now
        command = self._motion.arrays() if self._armed else None
        age, events = now - self._observed_at, tuple(self._events)
        return Output(command, events, self.mode, np.array(reference), self._sequence, age)

    def _say(self, kind: EventKind, text: str) -> None:
        self._events.append(Event(kind, text))

    def _enter(self, mode: Mode, reason: str = "") -> None:
        if mode is self.mode:
            return
        text = f"{self.mode.name} -> {mode.name}" + (f": {reason}" if reason else "")
        self._say(EventKind.STOPPED if mode is Mode.STOP else EventKind.MODE, text)
        self.mode = mode

    def _resume(self, now: float, unsent: bool) -> None:
        """Start from rest where the robot was told to be last, if it has been left alone."""
        if not self._armed:
            return
        gap = now - self._now
        lost = gap > GAP * self.config.dt
        if unsent:
            self._motion = self._previous
        if lost:
            self._watch.skip(gap - self.config.dt)
        if not (unsent or lost):
            return
        if not self._motion.resting:
            what = f"nothing was sent for {gap:.3f} s" if lost else "a command was not sent"
            self._say(EventKind.GAP, f"{what}; the robot goes on from rest")
        self._rest(self._motion.position)

    def _rest(self, position: Floats) -> None:
        """The robot stands at `position`, and everything goes on from there."""
        self._motion = PlainMotion.at_rest(position)
        self._check.restart(self._motion.position)

    def _supervise(self, now: float, state: RobotState) -> None:
        """Stop if the clock, the measurement or the robot is not right."""
        if self.mode is Mode.IDLE or not self._armed:
            return
        if self.mode is Mode.STOP:
            # Stopped on request, but into something.
            if self._may_yield and self._watch.tracking_problem(now, state, self._motion.position):
                self._must_yield = True
            return
        if not now > self._now:
            self._enter(Mode.STOP, f"the clock went from {self._now} to {now}")
            return
        problem = self._watch.state_problem(now, state)
        problem = problem or self._watch.tracking_problem(now, state, self._motion.position)
        if problem:
            self._must_yield = True
            self._enter(Mode.STOP, problem)

    def _obey(self, now: float, state: RobotState, request: Request, reason: str) -> None:
        if request is Request.STOP:
            self._may_yield = self._may_yield or self.mode is not Mode.STOP
            self._enter(Mode.STOP, reason)
        elif request is Request.RESET and self.mode is Mode.STOP:
            if self.resting:
                self._armed = False
                self._enter(Mode.IDLE, "reset")
            else:
                self._say(EventKind.REFUSED, "reset: the robot is still braking")
        elif request is Request.ARM and self.mode is Mode.IDLE:
            if problem := self.start_problem(now, state):
                self._say(EventKind.REFUSED, f"arm: {problem}")
                return
            # The first command is where the robot is: nothing jumps.
            self._rest(state.position.tolist())
            self._previous = self._motion
            self._watch.restart(now)
            self._stitcher.clear()
            self._armed, self._may_yield = True, False
            self._armed_at = self._due = now
            self._enter(Mode.ARMED)

    def _receive(self, now: float, measured: float, chunk: Chunk) -> None:
        if self.mode in (Mode.IDLE, Mode.STOP):
            return
        limits, ahead = self.config.limits.arrays, max(measured - now, 0.0) + self.config.dt
        problem = chunk_problem(chunk, now, limits, self.config.rules, ahead)
        if not problem and chunk.sequence <= self._sequence:
            problem = f"order: number {chunk.sequence} after {self._sequence}"
        if problem:
            self._say(EventKind.CHUNK_REJECTED, f"chunk {chunk.sequence}: {problem}")
            return
        self._sequence, self._observed_at = chunk.sequence, chunk.observed_at
        if self.mode is not Mode.RUN:
            # What was planned before the robot braked is over.
            self._stitcher.clear()
        self._stitcher.add(chunk, now, np.array(self._motion.position))
        self._starved = False

    def _advance(self, now: float, state: RobotState) -> Floats:
        """Move the command on by one period and return the reference."""
        # Stopped or not, a robot that was never armed is sent nothing.
        if not self._armed or self._too_soon(now):
            return self._motion.position
        stale = now - self._observed_at > self.config.stale_timeout
        # A command takes effect one period after the one before it.
        due = now + self.config.dt
        if self.mode is Mode.RUN and stale:
            self._enter(Mode.HOLD, f"no chunk for {now - self._observed_at:.3f} s")
        elif self.mode in (Mode.ARMED, Mode.HOLD) and not stale and self._stitcher.covers(due):
            self._enter(Mode.RUN)
        if self.mode is Mode.RUN:
            return self._follow(now, due)
        if self._must_yield and self._motion.resting:
            self._begin_to_yield(now, state)
        if self._yield_to is None:
            self._send(self._limiter.brake(self._motion))
        else:
            self._yield(self._yield_to)
        return self._motion.position

    def _too_soon(self, now: float) -> bool:
        """Whether the command has moved on for this time already; a grid, so nothing adds up."""
        if self._now < now < self._due - BURST * self.config.dt:
            return True
        # A clock that stands still ended the run, and braking goes on without it.
        self._due = (max(self._due, now) if now > self._now else now) + self.config.dt
        return False

    def _follow(self, now: float, due: float) -> Floats:
        """Take a step towards where the chunks want the robot to be; return that."""
        reference, velocity = self._reference(due)
        if due > self._stitcher.end and not self._starved:
            self._starved = True
            self._say(EventKind.STARVED, "the plan ended before the next one came")
        share = (now - self._armed_at) / self.config.slow_start if self.config.slow_start else 1.0
        speed = self.config.speed * min(max(share, SLOWEST), 1.0)
        limited = self._limiter.step(self._motion, reference, velocity, speed)
        hits = {
            EventKind.CLIPPED: limited.clipped,
            EventKind.GUARDED: limited.guarded,
            EventKind.WORKSPACE: limited.workspace,
        }
        active = frozenset(kind for kind, hit in hits.items() if hit)
        for kind in sorted(active - self._hits):
            self._say(kind, LIMIT_TEXTS[kind])
        self._hits = active
        self._send(limited.motion)
        return reference

    def _begin_to_yield(self, now: float, state: RobotState) -> None:
        """Choose the pose that pushes nothing: where the robot is, if that is known."""
        self._must_yield = self._may_yield = False
        command = self._motion.position
        problem = self._watch.unsound(now, state) or self._watch.too_far(state, command)
        if problem:
            self._say(EventKind.REFUSED, f"yield: {problem}")
            return
        pose: Floats = state.position.tolist()
        self._yield_to, distance = pose, max(map(abs, map(sub, pose, command)))
        self._say(EventKind.YIELDED, f"the command goes {distance:.4f} to where the robot is")

    def _yield(self, pose: Floats) -> None:
        """Take a step towards `pose`; there, or as near as the limits let it, the stop is over."""
        limited = self._limiter.step(self._motion, pose, [0.0] * len(pose), self.config.speed)
        self._send(limited.motion)
        limits, (_, velocity, acceleration) = self.config.limits, self._motion
        if all(
            abs(v) <= STILL * fastest and abs(a) <= STILL * strongest
            for v, a, fastest, strongest in zip(
                velocity, acceleration, limits.velocity, limits.acceleration, strict=True
            )
        ):
            self._rest(self._motion.position)
            self._yield_to = None

    def _reference(self, due: float) -> Reference:
        """Where the chunks want the robot to be, each joint ahead by its own latency."""
        found = [self._stitcher.at(due + latency) for latency in self._latencies]
        if len(found) == 1:
            return found[0]
        joints = list(enumerate(self._reactions))
        return [found[k][0][joint] for joint, k in joints], [
            found[k][1][joint] for joint, k in joints
        ]

    def _send(self, motion: PlainMotion) -> None:
        """Take over a command if it passes the last check; otherwise brake, or stay."""
        problem = self._check.problem(motion.position)
        if problem:
            self._say(EventKind.LIMIT_VIOLATION, problem)
            self._enter(Mode.STOP, f"command beyond its {problem}")
            motion = self._limiter.brake(self._motion)
            if self._check.problem(motion.position):
                self._rest(self._motion.position)
                return
        self._motion = motion


LIMIT_TEXTS = {
    EventKind.CLIPPED: "a waypoint lies outside the position limits",
    EventKind.GUARDED: "braked before a position limit",
    EventKind.WORKSPACE: "held back at the edge of the workspace",
}
