"""The policy process: newest state and pictures in, chunk out, as often as the policy likes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from numbers import Real
from threading import Event

import numpy as np

from ...decoding.plumbing.plugins import Registry
from ...decoding.plumbing.schema import build
from ..cameras import open_cameras
from ..config import PolicyOptions
from ..core.events import Mode, RobotState
from ..inject import inject
from ..policies.protocol import RobotPolicy, RobotPolicyFactory, Snapshot
from .camera_watch import CameraWatch
from .channels import POLICY, Channels, chunk_dtype, pack_chunk, unpack_state
from .console import PolicyConsole
from .realtime import follow_parent, on_signals
from .start import receive

NewestState = Callable[[], RobotState | None]


def find_factory(name: str) -> RobotPolicyFactory:
    """Import ``module:Name``, which builds a policy from a robot and options.

    Raises:
        ImportError: If there is no such thing; the message says which half of the name is wrong.
    """
    registry: Registry[RobotPolicyFactory]
    registry = Registry("hotloop.robot_policies", "robot policy", {}, __package__ or "")
    return registry.get(name)


def checked(policy: RobotPolicy, name: str) -> RobotPolicy:
    """Return what a factory made, or raise ValueError if it is no policy that could be run."""
    members = ("cameras", "period", "reset", "plan")
    if missing := [member for member in members if not hasattr(policy, member)]:
        raise ValueError(
            f"{name} made {policy!r}, which is no robot policy: it has no {', '.join(missing)}"
        )
    if not isinstance(policy.period, Real) or not 0 < policy.period < float("inf"):
        raise ValueError(f"period of the policy {name} must be a time in s, got {policy.period!r}")
    return policy


class Report:
    """What the policy tells the supervisor about itself.

    Args:
        channels: Of the run.
    """

    def __init__(self, channels: Channels) -> None:
        self._channels, self._record = channels, np.zeros((), POLICY)

    def ready(self, *, concludes: bool) -> None:
        """The policy is built and its cameras are open.

        Args:
            concludes: Whether it has something to finish at the end, and needs the time for it.
        """
        self._record["concludes"] = concludes
        self._channels.policy.write(self._record)

    def planned(self) -> None:
        """It planned from a measurement of the robot."""
        if not self._record["planned"]:
            self._record["planned"] = 1
            self._channels.policy.write(self._record)

    def lost(self, text: str) -> None:
        """Cameras are lost, or with an empty text all are back."""
        self._record["lost"] = text.encode()[:200]
        self._channels.policy.write(self._record)

    def finish(self, reason: str) -> None:
        """It has reached its end and asks for the end of the run."""
        self._record["finish"] = reason.encode()[:160]
        self._channels.policy.write(self._record)

    def failed(self, text: str) -> None:
        """It cannot be built, or cannot go on."""
        self._record["failure"] = text.encode()[:600]
        self._channels.policy.write(self._record)


def main() -> int:
    """Plan until SIGTERM; 1 if the policy cannot be built, or cannot go on."""
    assignment = receive()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow_parent()
    channels, extra = assignment.channels(), assignment.extra
    report, robot = Report(channels), assignment.robot

    def newest_state() -> RobotState | None:
        record = channels.state.read()
        return None if record is None else unpack_state(record)

    try:
        options = build(PolicyOptions, extra["options"])
        policy = checked(find_factory(extra["policy"])(robot, options), extra["policy"])
        if (attach := getattr(policy, "attach", None)) is not None:
            attach(PolicyConsole(channels, report.finish))
        with open_cameras(robot, policy.cameras, newest_state) as cameras:
            sizes = {name: robot.cameras[name].size for name in cameras}
            watch = CameraWatch(cameras, sizes, robot.control.rules.max_age, report.lost)
            watch.read()  # what a camera gives is seen before the robot is touched
            policy.reset(extra["seed"])
            report.ready(concludes=hasattr(policy, "conclude"))
            with concluding(policy, channels) as ended:
                serve(policy, watch, channels, extra["inject"], newest_state, report, ended)
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("HOTLOOP_DEBUG"):
            raise
        report.failed(str(error))
        return 1
    return 0


@contextmanager
def concluding(policy: RobotPolicy, channels: Channels) -> Generator[Event, None, None]:
    """Context at whose end a policy that has something to finish does so; yields when to end.

    Others are ended by SIGTERM on the spot.
    """
    ended, conclude = Event(), getattr(policy, "conclude", None)
    if conclude is not None:
        on_signals(ended.set)
    try:
        yield ended
    finally:
        if conclude is not None:
            status = channels.status.read()
            stopped = status is None or (status["mode"] == Mode.STOP and not status["asked"])
            conclude(stopped=bool(stopped or not ended.is_set()))


def serve(
    policy: RobotPolicy,
    watch: CameraWatch,
    channels: Channels,
    fault: str,
    newest_state: NewestState,
    report: Report,
    ended: Event,
) -> None:
    """Plan at the policy's period until it is over.

    Deadline k is start + k * period; those that pass during a plan are skipped, not made up for.
    """
    dtype = chunk_dtype(channels.sizes)
    sequence, deadline, mode = 0, time.monotonic(), Mode.IDLE
    while not ended.is_set():
        status = channels.status.read()
        if status is not None:
            # None may also be met in the middle of being written: then the mode is as it was.
            mode = Mode(int(status["mode"]))
        snapshot = look(watch, newest_state, sequence, mode)
        if snapshot is not None:
            chunk = policy.plan(snapshot)
            report.planned()
            if chunk is not None:
                channels.chunk.write(pack_chunk(inject(fault, chunk), dtype))
                sequence += 1
        missed = max(int((time.monotonic() - deadline) / policy.period), 0)
        deadline += (missed + 1) * policy.period
        ended.wait(max(deadline - time.monotonic(), 0.0))


def look(
    watch: CameraWatch, newest_state: NewestState, sequence: int, mode: Mode = Mode.RUN
) -> Snapshot | None:
    """What is known now; None while the robot was not measured or a picture is not fresh."""
    pictures = watch.read()
    state = newest_state()
    if state is None:
        return None
    fresh = watch.fresh(pictures, state.time)
    if len(fresh) < len(pictures):
        return None
    return Snapshot(
        state.time, state.position, state.velocity, state.sensors, fresh, sequence, mode
    )


if __name__ == "__main__":
    sys.exit(main())
