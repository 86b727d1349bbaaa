"""The control loop in real time: absolute deadlines around the pure controller."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..config import LONGEST_LATENCY, RobotConfig
from ..core.controller import Controller
from ..core.events import Event, Mailbox, Mode, Output, Request, RobotState
from ..core.history import StateHistory
from ..core.limits import Motion
from ..core.rehearsal import rehearse
from ..drivers.driver import BusError, Driver
from .channels import EVENT, STATUS, Channels, cycle_dtype, pack_state, state_dtype, unpack_chunk
from .tally import Tally

STATUS_PERIOD = 0.1  # [s]


class ControlLoop:
    """Runs a robot at a fixed period until it is asked to end and stands still.

    Deadline k is start + k * dt, so lateness does not add up. Cycles whose deadline has passed
    are skipped: commands are never sent in a burst.

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
        self.tally = Tally()
        self.realtime = ""
        self._monotonic, self._sleep = monotonic, sleep
        self._ending = self._asked = False
        self._failures, self._failure = 0, ""
        # Whether the newest command never left for the robot.
        self._unsent = False
        self._history = StateHistory(LONGEST_LATENCY)
        self._state_record = np.zeros((), state_dtype(channels.sizes))
        self._cycle_record = np.zeros((), cycle_dtype(channels.sizes))
        self._next_status = 0.0
        self._last_chunk = -1

    def end(self) -> None:
        """Ask for a braked stop and then the end; safe to call from a signal handler."""
        self._ending = True

    def run(self) -> None:
        """Connect, run until the end is asked for, brake, disconnect.

        Raises:
            OSError: If the robot cannot be connected; later failures stop the robot instead.
        """
        failure = "the control loop failed, see the messages of its process"
        try:
            self.driver.connect()
            self._state = self._measure()
            rehearse(self.config.control, self._state.position)
            self._loop()
            failure = ""
        except OSError as error:
            failure = str(error)
            raise
        finally:
            self.driver.disconnect(self.config.torque_off)
            self._report(self._monotonic(), np.inf, failure)

    def _loop(self) -> None:
        dt = self.config.control.dt
        deadline = self._monotonic()
        while not self._finished():
            deadline += dt
            behind = self._monotonic() - deadline
            if behind > dt:
                missed = int(behind / dt)
                self.tally.skipped += missed
                deadline += missed * dt
            if self.driver.clock == "host":
                self._sleep(max(deadline - self._monotonic(), 0.0))
            else:
                self._read()
                deadline = self._monotonic()
            self._cycle(deadline, self._monotonic())

    def _finished(self) -> bool:
        if not self._ending:
            return False
        mode = self.controller.mode
        return mode is Mode.IDLE or (mode is Mode.STOP and self.controller.resting)

    def _cycle(self, now: float, wake: float) -> None:
        if self.driver.clock == "host":
            self._read()
        mailbox = self._collect(now)
        output = self.controller.step(now, self._state, mailbox)
        self._unsent = output.command is not None and not self._write(now, output.command)
        sent = self._monotonic()
        self._count(wake - now, sent - wake, output)
        self._record(now, wake, sent, mailbox, output)
        self._judge_bus()
        if sent >= self._next_status:
            self._next_status = sent + STATUS_PERIOD
            self._report(sent, output.age)

    def _read(self) -> None:
        """Take a measurement, or keep the previous one if the bus failed."""
        try:
            self._state = self._measure()
        except BusError as error:
            self._fail(error)

    def _measure(self) -> RobotState:
        state = self.driver.read()
        state = replace(state, time=state.time - self.config.observation_latency)
        self._history.add(state.time, state.position, state.velocity)
        return state

    def _seen(self) -> RobotState:
        """What the policy sees: joints, further sensors and pictures as they were at one time."""
        state = self._state
        lag = self.config.sensor_latency - self.config.observation_latency
        if lag <= 0 or not (len(state.sensors) or self.config.cameras):
            return state
        position, velocity = self._history.at(state.time - lag)
        return replace(state, time=state.time - lag, position=position, velocity=velocity)

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
        self._failure = str(error)

    def _judge_bus(self) -> None:
        """After each cycle: too many in a row that failed are a fault of the robot."""
        self._failures = self._failures + 1 if self._failure else 0
        if self._failures >= self.config.bus_budget and not self._state.fault:
            self._state = replace(self._state, fault=f"bus: {self._failure}")
        self._failure = ""

    def _collect(self, now: float) -> Mailbox:
        request = Request.NONE
        asked = self.channels.request.read_new()
        if asked is not None:
            request = Request(int(asked["request"]))
        if self._ending and self.controller.mode is not Mode.STOP:
            request, self._asked = Request.STOP, True
        if self.controller.mode is Mode.IDLE and request is not Request.ARM:
            # The newest chunk waits: planned before the robot is armed, it is the first to follow.
            return Mailbox(None, request, self._unsent)
        record = self.channels.chunk.read_new()
        if record is None:
            return Mailbox(None, request, self._unsent)
        record["received_at"] = now
        self.channels.log_chunks.push(record)
        return Mailbox(unpack_chunk(record), request, self._unsent)

    def _count(self, wake: float, compute: float, output: Output) -> None:
        self.tally.cycles += 1
        self.tally.late += wake > self.config.control.dt / 2
        self.tally.wake.add(wake)
        self.tally.compute.add(compute)
        self.tally.accepted += output.chunk != self._last_chunk
        self._last_chunk = output.chunk
        for event in output.events:
            self.tally.note(event)

    def _record(
        self, now: float, wake: float, sent: float, mailbox: Mailbox, output: Output
    ) -> None:
        """Hand the cycle to the other processes."""
        state = pack_state(self._state, self._state_record.dtype)
        self.channels.state.write(pack_state(self._seen(), state.dtype))
        row = self._cycle_record
        row["now"], row["wake"], row["sent"] = now, wake, sent
        row["mode"], row["request"] = output.mode, mailbox.request
        row["chunk"], row["age"], row["state"] = output.chunk, output.age, state
        row["reference"] = output.reference
        row["has_command"] = output.command is not None and not self._unsent
        if output.command is not None:
            row["command"] = output.command.position
            row["command_velocity"] = output.command.velocity
            row["command_acceleration"] = output.command.acceleration
        self.channels.log_cycles.push(row)
        for event in output.events:
            self._tell(now, event)

    def _tell(self, now: float, event: Event) -> None:
        record = np.zeros((), EVENT)
        record["time"], record["kind"] = now, event.kind
        record["text"] = event.text.encode()[:160]
        self.channels.log_events.push(record)
        self.channels.events.push(record)

    def _report(self, now: float, age: float, failure: str | None = None) -> None:
        """Publish the counts; with `failure`, an empty one too, as the last ones."""
        tally, record = self.tally, np.zeros((), STATUS)
        record["time"], record["age"] = now, age
        for name in (
            "cycles", "late", "skipped", "accepted", "rejected", "limit_hits", "violations",
            "bus_failures",
        ):  # fmt: skip
            record[name] = getattr(tally, name)
        record["mode"], record["resting"] = self.controller.mode, self.controller.resting
        record["wake_p50"], record["wake_p99"] = tally.wake.quantiles(0.5, 0.99)
        record["compute_p50"], record["compute_p99"] = tally.compute.quantiles(0.5, 0.99)
        record["wake_max"] = tally.wake.largest
        record["velocity"], record["acceleration"], record["jerk"] = self.controller.peaks
        record["torch"] = "torch" in sys.modules
        record["log_dropped"] = self.channels.log_cycles.num_dropped
        record["realtime"] = self.realtime.encode()
        record["finished"], record["asked"] = failure is not None, self._asked
        record["failure"] = (failure or "").encode()[:160]
        self.channels.status.write(record)
