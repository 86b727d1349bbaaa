"""The control loop in real time: absolute deadlines around the pure controller."""

from __future__ import annotations

import math
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..config import LONGEST_LATENCY, RobotConfig
from ..core.controller import Controller
from ..core.events import Event, EventKind, Mailbox, Mode, Output, Request, RobotState
from ..core.history import StateHistory
from ..core.limits import Motion
from ..core.rehearsal import rehearse
from ..drivers.driver import BusError, Driver, Inspectable
from ..inputs import StopInputs
from .channels import EVENT, STATUS, Channels, unpack_chunk
from .guards import BusGuard, Heartbeat, OverrunGuard
from .packing import CyclePacker, StatePacker, layout
from .requests import Requests
from .tally import Durations, Tally

REPORT_PERIOD = 0.1  # of the counts, to the other processes [s]
OUT_OF_REACH = 1.0  # [s] of cycles that failed one after the other: braking waits no longer
# Share of a period that a deadline may be missed by, and that two commands are apart at least.
TOLERANCE = 0.5


class ControlLoop:
    """Runs a robot at a fixed period until it is asked to end and stands still.

    Deadline k is start + k * dt, so lateness does not add up. Cycles whose deadline has passed
    by more than half a period are skipped, and after a late one the next waits for a deadline that
    is at least half a period away: commands are never sent in a burst.

    Args:
        config: The robot.
        driver: Its back-end, not connected yet.
        channels: Where chunks and requests come from and where states and records go.
        monotonic: Clock [s], the same in all processes.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        config: RobotConfig,
        driver: Driver,
        channels: Channels,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config, self.driver, self.channels = config, driver, channels
        self.controller = Controller(config.control)
        self.tally = Tally(Durations(channels.wake), Durations(channels.compute))
        self._monotonic, self._sleep, self.realtime = monotonic, sleep, ""
        # The last: whether the newest command never left for the robot.
        self._ending = self._asked = self._release = self._connected = self._unsent = False
        self._bus, self._last_chunk = BusGuard(config.bus_budget), -1
        self._inputs, self._requests = StopInputs(config), Requests(channels)
        self._overrun = OverrunGuard(config.overrun_budget, config.control.dt)
        self._heartbeat, self._problem, self._blocked = Heartbeat(channels), "", ""
        self._history = StateHistory(LONGEST_LATENCY)
        self._lag = config.sensor_latency - config.observation_latency
        self._pack_state = StatePacker(channels.sizes).pack
        self._pack_cycle = CyclePacker(channels.sizes).pack
        self._pack_status = struct.Struct(f"={layout(STATUS)}").pack
        self._age, self._texts = math.inf, (b"", b"", b"")
        self._next_status, self._next_guard = 0.0, math.inf
        self._told: Mode = Mode.IDLE

    def end(self) -> None:
        """Ask for a braked stop and then the end; safe to call from a signal handler."""
        self._ending = True

    def run(self) -> None:
        """Connect, run until the end is asked for, brake, disconnect.

        Raises:
            OSError: If the robot cannot be connected or may not start, or if a stop input cannot be
                read; later failures stop the robot instead.
        """
        failure = "the control loop failed, see the messages of its process"
        try:
            self._texts = (self.realtime.encode(), b"", b"")
            self._inputs.open()
            self._connect()
            self._loop()
            failure = ""
        except OSError as error:
            failure = str(error)
            raise
        finally:
            try:
                self.driver.disconnect(
                    self._connected and (self.config.torque_off or self._release)
                )
                self._inputs.close()
            except OSError as error:
                failure = failure or str(error)
                raise
            finally:
                self._report(self._monotonic(), self._age, failure)

    def _connect(self) -> None:
        """Look at the robot first; take hold of it if it may be armed as it is."""
        if isinstance(self.driver, Inspectable):
            self.driver.inspect()
            self._state = self._measure()
            if problem := self.controller.start_problem(self._monotonic(), self._state):
                raise ConnectionError(
                    f"arm: {self.config.name_joints(problem)}; nothing was switched or moved. Move "
                    "it by hand to where it may start; release=true lets it go limp, it may fall"
                )
            # Before the robot depends on punctual cycles.
            rehearse(self.config.control, self._state.position)
        self._connected = True
        self.driver.connect()
        self._state = self._measure()
        if not isinstance(self.driver, Inspectable):
            rehearse(self.config.control, self._state.position)

    def _loop(self) -> None:
        deadline = wake = self._monotonic()
        while not self._finished():
            if self.driver.clock == "host":
                deadline = self._next_deadline(deadline, wake)
                self._sleep(max(deadline - self._monotonic(), 0.0))
                wake = self._monotonic()
            else:
                self._read()
                deadline = wake = self._monotonic()
            self._cycle(deadline, wake)

    def _next_deadline(self, deadline: float, wake: float) -> float:
        """The next one on the grid that may be served, counting those that are left out."""
        dt = self.config.control.dt
        behind = max(self._monotonic() - TOLERANCE * dt, wake + TOLERANCE * dt) - deadline
        periods = max(math.ceil(behind / dt - 1e-6), 1)
        self.tally.skipped += periods - 1
        return deadline + periods * dt

    def _finished(self) -> bool:
        return self._ending and (self.controller.mode is Mode.IDLE or self._at_rest())

    def _at_rest(self) -> bool:
        """Whether a stop is over: the robot was braked, or nothing reaches it any more."""
        out_of_reach = self._bus.num_failed * self.config.control.dt >= OUT_OF_REACH
        return self.controller.mode is Mode.STOP and (self.controller.resting or out_of_reach)

    def _cycle(self, now: float, wake: float) -> None:
        if self.driver.clock == "host":
            self._read()
        mailbox = self._collect(now)
        output = self.controller.step(now, self._state, mailbox)
        self._unsent = output.command is not None and not self._write(now, output.command)
        sent = self._monotonic()
        self._count(wake - now, sent - wake, output)
        self._record((now, wake, sent), mailbox, output)
        if (fault := self._bus.fault()) and not self._state.fault:
            self._state = replace(self._state, fault=fault)
        if sent >= self._next_status or output.mode is not self._told:
            if sent >= self._next_guard:
                # No cycle came between two reports: the period is long, or the mode changes often.
                self._guard(sent, output.mode)
            self._next_status, self._told, self._age = sent + REPORT_PERIOD, output.mode, output.age
            self._next_guard = min(self._next_guard, sent + REPORT_PERIOD / 2)
            self._report(sent, output.age)
        elif sent >= self._next_guard:
            # Not in the same cycle: what is done rarely finds the processor's caches cold.
            self._guard(sent, output.mode)

    def _guard(self, now: float, mode: Mode) -> None:
        """Look after the run as a whole; what is found stops the robot in the next cycle."""
        self._next_guard = math.inf
        if mode is Mode.IDLE:
            self._overrun.restart()
        overrun = self._overrun.problem(now, self.tally.skipped + self.tally.unsent)
        self._problem = overrun or self._heartbeat.problem(now)

    def _read(self) -> None:
        """Take a measurement, or keep the previous one if the bus failed."""
        try:
            self._state = self._measure()
        except BusError as error:
            self._fail(error)

    def _measure(self) -> RobotState:
        state = self.driver.read()
        if self.config.observation_latency:
            state = replace(state, time=state.time - self.config.observation_latency)
        if self._lag > 0:
            self._history.add(state.time, state.position, state.velocity)
        return state

    def _seen(self) -> RobotState:
        """What the policy sees: joints, further sensors and pictures as they were at one time."""
        state = self._state
        if self._lag <= 0 or not (len(state.sensors) or self.config.cameras):
            return state
        position, velocity = self._history.at(state.time - self._lag)
        return replace(state, time=state.time - self._lag, position=position, velocity=velocity)

    def _write(self, now: float, motion: Motion) -> bool:
        """Send a command; False if it did not leave, or was held up past the next deadline."""
        if self._monotonic() - now > self.config.control.dt:
            return False
        try:
            self.driver.write(motion)
        except BusError as error:
            self._fail(error)
            return False
        return True

    def _fail(self, error: BusError) -> None:
        self.tally.bus_failures += 1
        self._bus.fail(str(error))

    def _collect(self, now: float) -> Mailbox:
        request, reason = self._request(now)
        # Planned before the robot is armed, the newest chunk waits and is the first to follow.
        waits = self.controller.mode is Mode.IDLE and request is not Request.ARM
        record = None if waits else self.channels.chunk.read_new()
        if record is None:
            return Mailbox(None, request, self._unsent, reason)
        record["received_at"] = now
        self.channels.log_chunks.push(record)
        return Mailbox(unpack_chunk(record), request, self._unsent, reason)

    def _request(self, now: float) -> tuple[Request, str]:
        """What the operator asks for, and why; what stops comes before everything else."""
        mode, request = self.controller.mode, self._requests.read()
        self._blocked, reset = self._inputs.read(now)
        if request is Request.RELEASE:
            self._release = self._ending = True
        if self._ending and mode is not Mode.STOP:
            self._asked = True
            return Request.STOP, "requested"
        moving = mode not in (Mode.IDLE, Mode.STOP)
        if moving and (problem := self._blocked or self._problem):
            return Request.STOP, problem
        if request is Request.ARM and self._blocked:
            self._tell(now, Event(EventKind.REFUSED, f"arm: {self._blocked}"))
            return Request.NONE, ""
        if reset and request is Request.NONE and not moving:
            # Two presses: the first resets the stop, the second arms.
            request = Request.RESET if mode is Mode.STOP else Request.ARM
        return request, "requested"

    def _count(self, wake: float, compute: float, output: Output) -> None:
        self.tally.cycles += 1
        self.tally.unsent += self._unsent
        self.tally.late += wake > self.config.control.dt / 2
        self.tally.wake.add(wake)
        self.tally.compute.add(compute)
        self.tally.accepted += output.chunk != self._last_chunk
        self._last_chunk = output.chunk
        for event in output.events:
            self.tally.note(event)

    def _record(self, times: tuple[float, float, float], mailbox: Mailbox, output: Output) -> None:
        """Hand the cycle to the other processes."""
        state, seen = self._pack_state(self._state), self._seen()
        self.channels.state.write_bytes(state if seen is self._state else self._pack_state(seen))
        sent = output.command is not None and not self._unsent
        self.channels.log_cycles.push_bytes(self._pack_cycle(times, mailbox, state, output, sent))
        for event in output.events:
            self._tell(times[0], event)

    def _tell(self, now: float, event: Event) -> None:
        record = np.zeros((), EVENT)
        record["time"], record["kind"] = now, event.kind
        record["text"] = event.text.encode()[:160]
        self.channels.log_events.push(record)
        self.channels.events.push(record)

    def _report(self, now: float, age: float, failure: str | None = None) -> None:
        """Publish the counts; with `failure`, an empty one too, as the last ones."""
        tally, controller, finished = self.tally, self.controller, failure is not None
        # What takes long is left for when there is time.
        quantiles, texts, torch = (0.0, 0.0, 0.0, 0.0), self._texts, False
        if finished:
            quantiles = (*tally.wake.quantiles(0.5, 0.99), *tally.compute.quantiles(0.5, 0.99))
            texts = (self.realtime.encode(), (failure or "").encode()[:160], b"")
            torch = "torch" in sys.modules
        elif self._blocked:
            texts = (*texts[:2], self._blocked.encode()[:160])
        # In the order of `STATUS`.
        content = self._pack_status(
            now, controller.mode, self._at_rest(), tally.cycles, tally.late, tally.skipped,
            tally.unsent, tally.wake.largest, *quantiles, tally.rejected, tally.accepted,
            tally.limit_hits, tally.violations, tally.bus_failures, age, *controller.peaks, torch,
            self.channels.log_cycles.num_dropped, finished, self._asked, *texts,
        )  # fmt: skip
        self.channels.status.write_bytes(content)
