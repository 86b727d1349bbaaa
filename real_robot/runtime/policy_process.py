"""The policy process: newest state in, chunk out, as often as the policy likes."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from ..config import RobotConfig
from ..core.trajectory import Chunk
from ..inference import RobotPolicy, Snapshot
from ..inject import inject
from .channels import Channels, chunk_dtype, pack_chunk, unpack_state
from .realtime import follow_parent
from .start import receive

PolicyFactory = Callable[[RobotConfig, Mapping[str, Any]], RobotPolicy]


def find_factory(name: str) -> PolicyFactory:
    """Import ``module:function``, which builds a policy from a robot and options."""
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def main() -> int:
    """Plan until SIGTERM; 1 if the policy cannot be built."""
    task = receive()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow_parent()
    extra = task.extra
    try:
        policy = find_factory(extra["policy"])(task.robot, extra["options"])
    except (ValueError, OSError, ImportError) as error:
        print(f"hotloop: policy: {error}", file=sys.stderr, flush=True)
        return 1
    policy.reset(extra["seed"])
    serve(policy, task.channels(), extra["inject"])
    return 0


def serve(policy: RobotPolicy, channels: Channels, fault: str) -> None:
    """Plan at the policy's period, for ever; late plans are skipped, not made up for."""
    dtype = chunk_dtype(channels.sizes)
    sequence, deadline = 0, time.monotonic()
    while True:
        record = channels.state.read()
        if record is not None:
            state = unpack_state(record)
            plan = policy.plan(Snapshot(state.time, state.position, state.velocity, state.sensors))
            chunk = Chunk(sequence, state.time, state.time + plan.times, plan.waypoints)
            channels.chunk.write(pack_chunk(inject(fault, chunk), dtype))
            sequence += 1
        deadline = max(deadline + policy.period, time.monotonic())
        time.sleep(max(deadline - time.monotonic(), 0.0))


if __name__ == "__main__":
    sys.exit(main())
