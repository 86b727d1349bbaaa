"""One run: starts the processes, watches them, ends them in order, and sums up."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any

from ..config import RobotConfig
from ..core.events import EventKind, Mode, Request
from .channels import Channels, read_text, unpack_event
from .job import RunConfig, check_run
from .keyboard import Keyboard
from .shared import Record
from .start import start
from .summary import counts, status_line

STATUS_PERIOD = 0.5  # [s]
POLL = 0.02  # [s]
START_TIMEOUT = 30.0  # [s]
END_TIMEOUT = 15.0  # [s]
KEYS = {" ": Request.STOP, "r": Request.RESET, "a": Request.ARM}


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
        ValueError: If something does not fit, or the policy could not be built; the robot is not
            touched then.
        OSError: If the log cannot be written, the robot is not touched then; a ConnectionError if
            the robot could not be connected or may not start.
    """
    sizes = check_run(robot, job)
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
        self._refused = self._lost = ""
        self._finished = False

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
        """Log, policy, control: the robot is touched when everything else is ready.

        It is armed when all of them are at work: the log is being written, and the policy has
        planned from what the robot measures.
        """
        job = self.job
        if job.log is not None:
            extra = {"path": str(job.log.absolute())}
            self.processes["log"] = start("log_process", self.robot, self.channels, extra)
            self._wait("log", lambda: self.channels.log.read() is not None)
        extra = {
            "policy": job.policy,
            "options": asdict(job.options),
            "seed": job.seed,
            "inject": job.inject,
        }
        self.processes["policy"] = start("policy_process", self.robot, self.channels, extra)
        # Loading a large model may take as long as it likes.
        self._wait("policy", lambda: self.channels.policy.read() is not None, float("inf"))
        self.processes["control"] = start("control_process", self.robot, self.channels)
        self._wait("control", lambda: self.channels.state.read() is not None)
        self._wait("policy", self._has_planned)
        for name in self.processes:
            self._wait(name, lambda: True)
        self.channels.ask(Request.ARM)

    def _wait(self, name: str, ready: Callable[[], bool], timeout: float = START_TIMEOUT) -> None:
        """Return when a process is ready; raise if it fails, has ended or takes too long."""
        deadline = time.monotonic() + timeout
        while True:
            ended = self.processes[name].poll() is not None
            if failure := self._failure(name):
                raise _start_error(name, self.robot.name, failure)
            if ended:
                raise _start_error(
                    name, self.robot.name, f"the {name} process ended, see its messages"
                )
            if ready():
                return
            if time.monotonic() > deadline:
                raise _start_error(
                    name, self.robot.name, f"the {name} process is not ready after {timeout:g} s"
                )
            time.sleep(POLL)

    def _has_planned(self) -> bool:
        record = self.channels.policy.read()
        return record is not None and bool(record["planned"])

    def _failure(self, name: str) -> str:
        """What a process reported as its end, empty if nothing."""
        slots = {
            "log": self.channels.log,
            "policy": self.channels.policy,
            "control": self.channels.status,
        }
        record = slots[name].read()
        return "" if record is None else read_text(record, "failure")

    def _watch(self) -> None:
        """Pass on what happens until the time is over, the robot stops or the policy dies."""
        ends_at, next_status = float("inf"), 0.0
        while (now := time.monotonic()) < ends_at:
            self._pass_on_events()
            self._pass_on_losses()
            if self._obey_keys() or self._policy_finished():
                return
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

    def _obey_keys(self) -> bool:
        """Act on the operator's keys, pass on those of the policy; whether one ends the run."""
        pressed = self.keyboard.keys()
        for key in pressed:
            if key == "q":
                self._ended_by = "operator"
                return True
            if key in KEYS:
                self.channels.ask(KEYS[key])
            else:
                self.channels.press(key)
        return False

    def _policy_finished(self) -> bool:
        record = self.channels.policy.read()
        reason = "" if record is None else read_text(record, "finish")
        if reason:
            self._ended_by, self._finished = reason, True
        return bool(reason)

    def _someone_died(self) -> bool:
        for name, process in self.processes.items():
            code = process.poll()
            if code is None or name in self._reported:
                continue
            self._reported.add(name)
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self.say(f"the {name} process ended: {how} {self._failure(name)}".rstrip())
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
        for record in self.channels.messages.pop():
            self.say(read_text(record, "text"))

    def _pass_on_losses(self) -> None:
        """Tell once which cameras give no pictures any more, and once that they do again."""
        record = self.channels.policy.read()
        lost = self._lost if record is None else read_text(record, "lost")
        if lost != self._lost:
            self._lost = lost
            self.say(lost or "all cameras give pictures again")

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
        self._remove_empty_log()

    def _remove_empty_log(self) -> None:
        """A run that never reached its robot leaves no log that would stand in the next one's way.

        The log process created the file, or it would have reported a failure.
        """
        mine = self.channels.log.read() is not None and not self._failure("log")
        if mine and self.job.log is not None and self.channels.state.read() is None:
            self.job.log.unlink(missing_ok=True)

    def _summary(self) -> dict[str, Any]:
        status = self._status()
        if status is None:
            raise ConnectionError(f"{self.robot.name}: the control loop reported nothing")
        return {
            "robot": self.robot.name,
            "ended_by": self._ended_by,
            "finished": self._finished,
            **counts(status),
            "log_failure": self._failure("log"),
            "lost_cameras": self._lost,
        }


def _start_error(name: str, robot: str, reason: str) -> Exception:
    """What to raise for a process that did not get ready."""
    if name == "policy":
        return ValueError(f"policy: {reason}")
    return (
        ConnectionError(f"{robot}: {reason}")
        if name == "control"
        else OSError(f"the log cannot be written, so the robot was not armed: {reason}")
    )
