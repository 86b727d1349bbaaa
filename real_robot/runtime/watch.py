"""What happens during a run: the operator's wishes, events, deaths, and how it all ends."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping

from ..config import RobotConfig
from ..core.events import Event, EventKind, Mode, Request
from .channels import Channels, read_text, unpack_event
from .keyboard import Keyboard
from .operator import Signals
from .shared import Record
from .summary import status_line

LINE_PERIOD = 0.5  # of the status line, to the operator [s]
POLL = 0.02  # [s]
ALL_REFUSED_AFTER = 5.0  # [s] in which chunks came and none was good enough to begin with
KEYS = {" ": Request.STOP, "r": Request.RESET, "a": Request.ARM}
RELEASE_KEY, RELEASE_TIME = "L", 5.0  # [s] within which the key is pressed twice


class RunWatch:
    """Watches a run until it is to end, and knows why.

    Args:
        robot: The robot.
        channels: Of the run.
        processes: Of the run, by name.
        say: Takes a line for the operator; must not wait.
        keyboard: The operator's keys.
        signals: What was asked for by signals.

    Attributes:
        ended_by: Why the run ended: ``"duration"``, ``"operator"``, a signal, ``"stop"``,
            ``"released"``, a process that died, ``"all chunks refused"``, or what the policy said.
        finished: Whether the policy asked for the end.
        stops: Why the robot stopped by itself, each time.
        stop_reason: Why it stopped by itself for good, empty if it did not.
        lost: Which cameras give no pictures.
        log_death: How the log process died, empty if it did not.
        policy_death: The same of the policy process.
    """

    def __init__(
        self,
        robot: RobotConfig,
        channels: Channels,
        processes: Mapping[str, subprocess.Popen[bytes]],
        say: Callable[[str], None],
        keyboard: Keyboard,
        signals: Signals,
    ) -> None:
        self.robot, self.channels, self.processes = robot, channels, processes
        self.say, self.keyboard, self.signals = say, keyboard, signals
        self.ended_by, self.finished = "", False
        self.stops: list[str] = []
        self.stop_reason = self.lost = self.log_death = self.policy_death = ""
        self._reported: set[str] = set()
        self._armed_at = self._ends_at = float("inf")
        self._ends_as, self._next_status = "duration", 0.0
        self._released, self._release_until = False, 0.0

    def run(self, duration: float) -> None:
        """Return when the run is to end.

        Args:
            duration: How long it may last after the first motion [s].

        Raises:
            ConnectionError: If the robot may not be armed.
        """
        while not self.ended_by:
            self.channels.beat()
            now = time.monotonic()
            self.pass_on()
            status = self.channels.status.read()
            if status is not None:
                self._judge(status, now, duration)
            self._obey()
            self._bury(now)
            if now >= self._ends_at:
                self._end(self._ends_as)
            time.sleep(0 if self.ended_by else POLL)

    def _end(self, reason: str) -> None:
        self.ended_by = self.ended_by or reason

    def _obey(self) -> None:
        """Act on signals, on the operator's keys and on the policy's wish; pass on other keys."""
        if self.signals.asked:
            self.say(f"{self.signals.asked}: braking")
            self._end(self.signals.asked)
        pressed = self.keyboard.keys()
        for key in pressed:
            if key == "q":
                self._end("operator")
            elif key in KEYS:
                self.channels.ask(KEYS[key])
            elif key == RELEASE_KEY:
                self._release()
            else:
                self.channels.press(key)
        record = self.channels.policy.read()
        reason = "" if record is None else read_text(record, "finish")
        if reason and not self.ended_by:
            self.finished = True
            self._end(reason)

    def _release(self) -> None:
        """At the second press in a row: the loop brakes, lets the joints go limp, and ends."""
        now = time.monotonic()
        self._released = now < self._release_until
        if self._released:
            self.channels.ask(Request.RELEASE)
            return
        self._release_until = now + RELEASE_TIME
        self.say(f"{RELEASE_KEY} once more lets all joints go limp: the arm may fall, so hold it")

    def _judge(self, status: Record, now: float, duration: float) -> None:
        """Begin to count the time with the first motion; end a run that cannot go on."""
        mode = Mode(int(status["mode"]))
        if mode is not Mode.IDLE and self._armed_at == float("inf"):
            self._armed_at = now
        if mode is Mode.RUN and self._ends_at == float("inf"):
            self._ends_at = now + duration
        if now >= self._next_status:
            self._next_status = now + LINE_PERIOD
            self.say(status_line(status, self.robot.control.dt, self.channels))
        if mode is Mode.STOP and status["resting"] and not self._can_reset():
            self._end("stop")
        waited = now - self._armed_at
        if status["rejected"] and not status["accepted"] and waited > ALL_REFUSED_AFTER:
            self._end("all chunks refused")

    def _can_reset(self) -> bool:
        """Whether somebody could make the robot go on."""
        inputs = self.robot.stop_inputs.values()
        return self.keyboard.active or any("reset" in one.options for one in inputs)

    def _bury(self, now: float) -> None:
        """Tell which processes died; end the run where nothing works without them."""
        for name, process in self.processes.items():
            code = process.poll()
            # A policy says that it cannot go on a second or two before its process has ended.
            failed = name == "policy" and bool(self.channels.failure(name))
            if (code is None and not failed) or name in self._reported:
                continue
            self._reported.add(name)
            if name == "control" and self._released and code == 0:
                self._end("released")
                continue
            how = f"exit code {1 if code is None else code}"
            if code is not None and code < 0:
                how = signal.Signals(-code).name
            text = f"the {name} process ended: {how}"
            self.say(f"{text} {self.channels.failure(name)}".rstrip())
            if name == "log":
                self.log_death = text
            elif name == "control":
                self._end("control died")
            else:
                # The loop notices by itself; it is given the time to brake.
                self._ends_at = now + self.robot.control.stale_timeout + 0.5
                self._ends_as, self.policy_death = "policy died", text

    def pass_on(self) -> None:
        """Tell the operator what the loop and the policy say.

        Raises:
            ConnectionError: If the robot may not be armed.
        """
        for record in self.channels.events.pop():
            moment, event = unpack_event(record)
            event = event._replace(text=self.robot.name_joints(event.text))
            self.say(f"{moment:12.3f}  {event.kind.name}  {event.text}")
            self._note(event)
        for record in self.channels.messages.pop():
            self.say(read_text(record, "text"))
        record = self.channels.policy.read()
        lost = self.lost if record is None else read_text(record, "lost")
        if lost != self.lost:
            self.lost = lost
            self.say(lost or "all cameras give pictures again")

    def _note(self, event: Event) -> None:
        if event.kind is EventKind.STOPPED:
            reason = event.text.partition(": ")[2]
            if reason != "requested":
                self.stop_reason = reason
                self.stops.append(reason)
        elif event.kind is EventKind.MODE and event.text.endswith(": reset"):
            self.stop_reason = ""
        refused = event.kind is EventKind.REFUSED and event.text.startswith("arm")
        # Later on it is the operator who arms, and sees why it is refused.
        if refused and self._armed_at == float("inf"):
            raise ConnectionError(f"{self.robot.name}: {event.text}")
