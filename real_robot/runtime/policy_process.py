"""The policy process: newest state and pictures in, chunk out, as often as the policy likes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from ..cameras import Camera, Picture, open_cameras
from ..config import RobotConfig
from ..core.events import RobotState
from ..core.trajectory import Chunk
from ..inference import RobotPolicy, Snapshot
from ..inject import inject
from .channels import POLICY, Channels, chunk_dtype, pack_chunk, unpack_state
from .realtime import follow_parent
from .start import receive

PolicyFactory = Callable[[RobotConfig, Mapping[str, Any]], RobotPolicy]


def find_factory(name: str) -> PolicyFactory:
    """Import ``module:function``, which builds a policy from a robot and options."""
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def main() -> int:
    """Plan until SIGTERM; 1 if the policy cannot be built, or cannot go on."""
    task = receive()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow_parent()
    channels, extra = task.channels(), task.extra

    def newest_state() -> RobotState | None:
        record = channels.state.read()
        return None if record is None else unpack_state(record)

    try:
        policy = find_factory(extra["policy"])(task.robot, extra["options"])
        with open_cameras(task.robot, policy.cameras, newest_state) as cameras:
            policy.reset(extra["seed"])
            _tell(channels)
            serve(policy, cameras, channels, extra["inject"], newest_state)
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("HOTLOOP_DEBUG"):
            raise
        _tell(channels, str(error))
        return 1
    return 0


def _tell(channels: Channels, failure: str = "") -> None:
    """Say that the policy is ready, or what is wrong with it."""
    record = np.zeros((), POLICY)
    record["failure"] = failure.encode()[:600]
    channels.policy.write(record)


def serve(
    policy: RobotPolicy,
    cameras: Mapping[str, Camera],
    channels: Channels,
    fault: str,
    newest_state: Callable[[], RobotState | None],
) -> None:
    """Plan at the policy's period, for ever.

    Deadline k is start + k * period; those that pass during a plan are skipped, not made up for.
    """
    dtype = chunk_dtype(channels.sizes)
    sequence, deadline = 0, time.monotonic()
    while True:
        chunk = _plan(policy, cameras, newest_state, sequence)
        if chunk is not None:
            channels.chunk.write(pack_chunk(inject(fault, chunk), dtype))
            sequence += 1
        missed = max(int((time.monotonic() - deadline) / policy.period), 0)
        deadline += (missed + 1) * policy.period
        time.sleep(max(deadline - time.monotonic(), 0.0))


def _plan(
    policy: RobotPolicy,
    cameras: Mapping[str, Camera],
    newest_state: Callable[[], RobotState | None],
    sequence: int,
) -> Chunk | None:
    """A chunk from what is known now; None if that is not enough or nothing is to be sent."""
    pictures: dict[str, Picture] = {}
    for name, camera in cameras.items():
        picture = camera.read()
        if picture is None:
            return None
        pictures[name] = picture
    state = newest_state()
    if state is None:
        return None
    plan = policy.plan(
        Snapshot(state.time, state.position, state.velocity, state.sensors, pictures)
    )
    if plan is None:
        return None
    # A chunk is as old as the oldest thing that it was computed from: the loop refuses a chunk
    # from a stale picture as it refuses one from a stale measurement.
    observed_at = min([state.time, *(picture.time for picture in pictures.values())])
    return Chunk(sequence, observed_at, state.time + plan.times, plan.waypoints)


if __name__ == "__main__":
    sys.exit(main())
