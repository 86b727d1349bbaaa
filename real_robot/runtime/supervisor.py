"""One run: starts the processes, has them watched, ends them in order, and sums up."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from typing import Any

from ..config import RobotConfig
from ..core.events import Request
from .channels import Channels, read_text
from .job import RunConfig, check_run
from .keyboard import Keyboard
from .operator import Printer, Signals
from .start import start
from .summary import counts, failures
from .watch import POLL, RunWatch

START_TIMEOUT = 30.0  # [s]
# Time to end [s]: to brake, to do nothing any more, to write the last records.
END_TIMEOUTS = {"control": 15.0, "policy": 2.0, "log": 15.0}
CONCLUSION = 60.0  # of a policy that has something to finish: to encode and write an episode [s]


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
        say: Takes one line of text for the operator, in a thread of its own: a run never waits
            for it, and drops lines that it does not get rid of.
        keyboard: The operator's keys, see `watch.KEYS`; without it a stop ends the run.

    Raises:
        ValueError: If something does not fit, or the policy could not be built; the robot is not
            touched then.
        OSError: If the log cannot be written, the robot is not touched then; a ConnectionError if
            the robot could not be connected or may not start.
        KeyboardInterrupt: If a signal asks for the end before the robot is touched.
    """
    sizes = check_run(robot, job)
    with Signals() as signals, closing(Channels(sizes)) as channels, Printer(say) as printer:
        return Run(robot, job, channels, printer, keyboard or Keyboard(), signals).execute()


class Interrupted(Exception):
    """The operator asked for the end before the robot moved."""


class Run:
    """The processes of one run."""

    def __init__(
        self,
        robot: RobotConfig,
        job: RunConfig,
        channels: Channels,
        say: Callable[[str], None],
        keyboard: Keyboard,
        signals: Signals | None = None,
    ) -> None:
        self.robot, self.job, self.channels, self.say = robot, job, channels, say
        self.keyboard, self.signals = keyboard, signals or Signals()
        self._blocked = ""
        # What processes that were asked to end did instead, by name.
        self._bad_ends: dict[str, str] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._watch = RunWatch(robot, channels, self.processes, say, keyboard, self.signals)

    def execute(self) -> dict[str, Any]:
        """Start, arm, watch until the end, stop."""
        try:
            self._start()
            self._watch.run(self.job.duration)
        except Interrupted as interruption:
            if "control" not in self.processes:
                raise KeyboardInterrupt from None
            self._watch.ended_by = str(interruption)
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
        self._wait("control", self._may_move, float("inf"))
        self.channels.ask(Request.ARM)

    def _wait(self, name: str, ready: Callable[[], bool], timeout: float = START_TIMEOUT) -> None:
        """Return when a process is ready; raise if it fails, has ended or takes too long."""
        deadline = time.monotonic() + timeout
        while True:
            self._may_go_on()
            ended = self.processes[name].poll() is not None
            if failure := self.channels.failure(name):
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

    def _may_go_on(self) -> None:
        """While the run starts: raise Interrupted if a signal or a key asks for its end."""
        self.channels.beat()
        if self.signals.asked:
            raise Interrupted(self.signals.asked)
        pressed = self.keyboard.keys()
        if " " in pressed or "q" in pressed:
            raise Interrupted("operator")

    def _may_move(self) -> bool:
        """Whether no stop input objects; tells the operator which does."""
        status = self.channels.status.read()
        blocked = "" if status is None else read_text(status, "blocked")
        if blocked and blocked != self._blocked:
            self.say(f"waiting to begin: {blocked}")
        self._blocked = blocked
        return not blocked

    def _has_planned(self) -> bool:
        record = self.channels.policy.read()
        return record is not None and bool(record["planned"])

    def _end(self) -> None:
        """Stop the robot first, then the policy, then the log, which takes what is left."""
        for name, timeout in END_TIMEOUTS.items():
            process = self.processes.get(name)
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(CONCLUSION if name == "policy" and self._concludes() else timeout)
            except subprocess.TimeoutExpired:
                self.say(f"the {name} process does not end: killed")
                process.kill()
                process.wait()
            # Also if it died in the last moment before this.
            if process.returncode not in (0, -signal.SIGTERM):
                self._bad_ends[name] = f"the {name} process did not end as it should"
        self._watch.pass_on()
        self._remove_empty_log()

    def _concludes(self) -> bool:
        record = self.channels.policy.read()
        return record is not None and bool(record["concludes"])

    def _remove_empty_log(self) -> None:
        """A run that never reached its robot leaves no log that would stand in the next one's way.

        The log process created the file, or it would have reported a failure.
        """
        mine = self.channels.log.read() is not None and not self.channels.failure("log")
        if mine and self.job.log is not None and self.channels.state.read() is None:
            self.job.log.unlink(missing_ok=True)

    def _summary(self) -> dict[str, Any]:
        status, watch = self.channels.status.read(), self._watch
        if status is None:
            raise ConnectionError(f"{self.robot.name}: the control loop reported nothing")
        summary = {
            "robot": self.robot.name,
            "ended_by": watch.ended_by,
            "finished": watch.finished,
            "stop_reason": watch.stop_reason,
            "stops": watch.stops,
            **counts(status, self.channels),
            "policy_failure": (
                self.channels.failure("policy")
                or watch.policy_death
                or self._bad_ends.get("policy", "")
            ),
            "log_failure": (
                self.channels.failure("log") or watch.log_death or self._bad_ends.get("log", "")
            ),
            "lost_cameras": watch.lost,
        }
        if self.job.log is None:  # nobody was there to take the records
            summary["log_records_dropped"] = 0
        return summary | {"failures": failures(summary, self.robot)}


def _start_error(name: str, robot: str, reason: str) -> Exception:
    """What to raise for a process that did not get ready."""
    if name == "policy":
        return ValueError(f"policy: {reason}")
    return (
        ConnectionError(f"{robot}: {reason}")
        if name == "control"
        else OSError(f"the log cannot be written, so the robot was not armed: {reason}")
    )
