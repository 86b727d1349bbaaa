"""One run: starts the processes, watches them, ends them in order, and sums up."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import RobotConfig
from ..core.events import EventKind, Mode, Request
from ..drivers import make_driver
from ..inject import check_fault
from .channels import Channels, Sizes, read_text, unpack_event
from .keyboard import Keyboard
from .shared import Record
from .start import start
from .summary import counts, status_line

STATUS_PERIOD = 0.5  # [s]
POLL = 0.02  # [s]
START_TIMEOUT = 30.0  # [s]
END_TIMEOUT = 15.0  # [s]
KEYS = {" ": Request.STOP, "r": Request.RESET, "a": Request.ARM}


@dataclass(frozen=True)
class RunConfig:
    """What to run on a robot.

    Attributes:
        policy: Function that builds the policy, ``module:function``.
        options: Its options; JSON-able.
        duration: How long to run after the first motion [s].
        seed: Seed of the policy.
        inject: Fault to inject into the policy's chunks, empty for none.
        log: File to log to, None for no log.
    """

    policy: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    duration: float = 10.0
    seed: int = 0
    inject: str = ""
    log: Path | None = None

    def __post_init__(self) -> None:
        """Reject an unknown fault and a run without end."""
        check_fault(self.inject)
        if not 0 < self.duration < float("inf"):
            raise ValueError(f"duration must be a positive time in s, got {self.duration}")


class Interrupted(Exception):
    """The operator or the system asked for the end."""


def supervise(
    robot: RobotConfig,
    job: RunConfig,
    say: Callable[[str], None] = print,
    keyboard: Keyboard | None = None,
) -> dict[str, Any]:
    """Run a job and return its summary, JSON-able.

    Args:
        robot: The robot.
        job: What to run on it.
        say: Takes one line of text for the operator.
        keyboard: The operator's keys, see `KEYS`; without it a stop ends the run.

    Raises:
        ValueError: If the policy could not be built; the robot is not touched then.
        ConnectionError: If the robot could not be connected or may not start.
    """
    sizes = Sizes(robot.control.limits.num_joints, make_driver(robot).num_sensors, robot.control.dt)
    with _signals_as_interrupts(), closing(Channels(sizes)) as channels:
        return Run(robot, job, channels, say, keyboard or Keyboard()).execute()


@contextmanager
def _signals_as_interrupts() -> Generator[None, None, None]:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does: in order."""

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted(signal.Signals(number).name)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Run:
    """The processes of one run."""

    def __init__(
        self,
        robot: RobotConfig,
        job: RunConfig,
        channels: Channels,
        say: Callable[[str], None],
        keyboard: Keyboard,
    ) -> None:
        self.robot, self.job, self.channels, self.say = robot, job, channels, say
        self.keyboard = keyboard
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ended_by = "duration"
        self._reported: set[str] = set()
        self._refused = ""

    def execute(self) -> dict[str, Any]:
        """Start, arm, watch until the end, stop."""
        try:
            self._start()
            self._watch()
        except Interrupted as interruption:
            if "control" not in self.processes:
                raise KeyboardInterrupt from None
            self._ended_by = str(interruption)
            self.say(f"{interruption}: braking")
        finally:
            self._end()
        return self._summary()

    def _start(self) -> None:
        """Log, policy, control: the robot is touched when everything else is ready."""
        job = self.job
        if job.log is not None:
            extra = {"path": str(job.log)}
            self.processes["log"] = start("log_process", self.robot, self.channels, extra)
        extra = {
            "policy": job.policy,
            "options": dict(job.options),
            "seed": job.seed,
            "inject": job.inject,
        }
        self.processes["policy"] = start("policy_process", self.robot, self.channels, extra)
        self._wait_for_policy()
        self.processes["control"] = start("control_process", self.robot, self.channels)
        self._wait_for_robot()
        self.channels.ask(Request.ARM)

    def _wait_for_policy(self) -> None:
        """Return when it is ready; loading a large model may take as long as it likes."""
        process = self.processes["policy"]
        while True:
            ended = process.poll() is not None
            record = self.channels.policy.read()
            if record is not None:
                if failure := read_text(record, "failure"):
                    raise ValueError(f"policy: {failure}")
                return
            if ended:
                raise ValueError("the policy cannot be built, see the messages of its process")
            time.sleep(POLL)

    def _wait_for_robot(self) -> None:
        """Return when it has measured something."""
        control = self.processes["control"]
        deadline = time.monotonic() + START_TIMEOUT
        while self.channels.state.read() is None:
            if control.poll() is not None:
                status = self._status()
                reason = read_text(status, "failure") if status is not None else ""
                raise ConnectionError(f"{self.robot.name}: {reason or 'the control loop failed'}")
            if time.monotonic() > deadline:
                raise ConnectionError(f"{self.robot.name}: no measurement within {START_TIMEOUT} s")
            time.sleep(POLL)

    def _watch(self) -> None:
        """Pass on what happens until the time is over, the robot stops or the policy dies."""
        ends_at, next_status = float("inf"), 0.0
        while (now := time.monotonic()) < ends_at:
            self._pass_on_events()
            key = self.keyboard.key()
            if key == "q":
                self._ended_by = "operator"
                return
            if key in KEYS:
                self.channels.ask(KEYS[key])
            if self._refused:
                raise ConnectionError(f"{self.robot.name}: {self._refused}")
            status = self._status()
            if status is not None:
                mode = Mode(int(status["mode"]))
                if mode is Mode.RUN and ends_at == float("inf"):
                    ends_at = now + self.job.duration
                if now >= next_status:
                    next_status = now + STATUS_PERIOD
                    self.say(status_line(status, self.robot.control.dt))
                if mode is Mode.STOP and status["resting"] and not self.keyboard.active:
                    self._ended_by = "stop"
                    return
            if self._someone_died():
                return
            time.sleep(POLL)

    def _someone_died(self) -> bool:
        for name, process in self.processes.items():
            code = process.poll()
            if code is None or name in self._reported:
                continue
            self._reported.add(name)
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            if name == "policy" and (record := self.channels.policy.read()) is not None:
                how += f" {read_text(record, 'failure')}".rstrip()
            self.say(f"the {name} process ended: {how}")
            if name == "control":
                self._ended_by = f"{name} died"
                return True
            if name == "policy":
                # The loop notices by itself; give it the time to brake.
                self._ended_by = f"{name} died"
                time.sleep(self.robot.control.stale_timeout + 0.5)
                self._pass_on_events()
                return True
        return False

    def _pass_on_events(self) -> None:
        for record in self.channels.events.pop():
            moment, event = unpack_event(record)
            self.say(f"{moment:12.3f}  {event.kind.name}  {event.text}")
            if event.kind is EventKind.REFUSED and event.text.startswith("arm"):
                self._refused = event.text

    def _status(self) -> Record | None:
        return self.channels.status.read()

    def _end(self) -> None:
        """Stop the robot first, then the policy, then the log, which takes what is left."""
        for name in ("control", "policy", "log"):
            process = self.processes.get(name)
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(END_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.say(f"the {name} process does not end: killed")
                process.kill()
                process.wait()
        self._pass_on_events()

    def _summary(self) -> dict[str, Any]:
        status = self._status()
        if status is None:
            raise ConnectionError(f"{self.robot.name}: the control loop reported nothing")
        return {"robot": self.robot.name, "ended_by": self._ended_by, **counts(status)}
