"""The control loop beside the kernel's own measure of punctuality, and where its time goes.

`cyclictest` (Debian's rt-tests) sleeps and wakes in C, as punctually as this machine can; it and
the loop take turns, so that both see the same minutes, each with the same other work on the
machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.events import Request
from hotloop.real_robot.drivers import make_driver
from hotloop.real_robot.logs.reader import ControlLog
from hotloop.real_robot.policies.protocol import Snapshot
from hotloop.real_robot.policies.reach import ReachPolicy
from hotloop.real_robot.runtime.channels import Channels, Sizes, chunk_dtype, pack_chunk
from hotloop.real_robot.runtime.job import RunConfig
from hotloop.real_robot.runtime.loop import ControlLoop
from hotloop.real_robot.runtime.supervisor import supervise

LOST = 1000  # us of lateness at which cyclictest loses a cycle of 1 ms
# What a cycle does, by where it does it: an attribute of the loop, and one of that.
PARTS = {
    "read": ("", "_read"),
    "collect": ("", "_collect"),
    "step": ("controller", "step"),
    "limiter": ("controller._limiter", "step"),
    "stitcher": ("controller._stitcher", "at"),
    "check": ("controller._check", "problem"),
    "write": ("", "_write"),
    "record": ("", "_record"),
}


def cyclictest(seconds: float) -> dict[str, Any]:
    """One run of cyclictest at 1 kHz with fixed priority 80."""
    program = shutil.which("cyclictest")
    if program is None:
        raise FileNotFoundError("cyclictest is missing: apt-get install rt-tests")
    command = [program, "-m", "-p80", "-i1000", "-t1", "-q", "-h", "50000", "-D", str(int(seconds))]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in text.splitlines() if line[:1].isdigit()]
    counts = np.array([int(count) for _, count in rows])
    total = np.cumsum(counts)
    p50, p99 = (int(np.searchsorted(total, share * total[-1])) for share in (0.5, 0.99))
    highest = int(np.flatnonzero(counts)[-1])
    return {
        "p50": p50, "p99": p99, "max": highest, "cycles": int(total[-1]),
        "lost": int(counts[LOST:].sum()),
    }  # fmt: skip


def rounds(
    robot: RobotConfig,
    policy: str,
    seconds: float,
    count: int,
    busy: Callable[[], Any],
) -> list[dict[str, Any]]:
    """Let cyclictest and the loop take turns.

    Args:
        robot: At 1 kHz.
        policy: Of the run.
        seconds: Of each turn.
        count: Turns of each.
        busy: A context with other work on the machine.
    """
    found: list[dict[str, Any]] = []
    with busy():
        for _ in range(count):
            load = os.getloadavg()[0]
            kernel = cyclictest(seconds)
            summary = supervise(robot, RunConfig(policy, duration=seconds), lambda line: None)
            found.append(
                {
                    "load": load,
                    "cyclictest_us": kernel,
                    "loop_us": summary["wake_us"],
                    "compute_us": summary["compute_us"],
                    "cycles": summary["cycles"],
                    "skipped": summary["skipped_cycles"],
                    "realtime": summary["realtime"],
                }
            )
    return found


@contextmanager
def timed(loop: ControlLoop) -> Iterator[dict[str, list[float]]]:
    """Measure every call of a loop's `PARTS` [s]."""
    times: dict[str, list[float]] = {name: [] for name in PARTS}

    def wrapped(inner: Callable[..., Any], into: list[float]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            began = time.perf_counter()
            result = inner(*args)
            into.append(time.perf_counter() - began)
            return result

        return call

    for name, (path, method) in PARTS.items():
        owner: Any = loop
        for part in filter(None, path.split(".")):
            owner = getattr(owner, part)
        setattr(owner, method, wrapped(getattr(owner, method), times[name]))
    yield times


def split(robot: RobotConfig, seconds: float) -> dict[str, dict[str, float]]:
    """p50 and p99 of what a cycle computes [us], by part, in this process and without a device.

    The steps of limiter, stitcher and check are inside of ``"step"``.
    """
    channels = Channels(Sizes(robot.control.limits.num_joints, 0, robot.control.dt))
    loop, policy = ControlLoop(robot, make_driver(robot), channels), ReachPolicy(robot)
    dtype, cycles = chunk_dtype(channels.sizes), int(seconds / robot.control.dt)
    loop._connect()
    channels.ask(Request.ARM)
    whole: list[float] = []
    with timed(loop) as times:
        start = time.monotonic()
        for cycle in range(1, cycles):
            deadline = start + cycle * robot.control.dt
            if cycle % 50 == 3:
                state = loop._state
                seen = Snapshot(state.time, state.position, state.velocity, state.sensors)
                chunk = policy.plan(seen._replace(sequence=cycle))
                channels.chunk.write(pack_chunk(chunk, dtype))
                channels.log_cycles.pop()
                channels.log_chunks.pop()
                channels.log_events.pop()
                channels.events.pop()
            time.sleep(max(deadline - time.monotonic(), 0.0))
            began = time.perf_counter()
            loop._cycle(deadline, time.monotonic())
            whole.append(time.perf_counter() - began)
    return {name: _quantiles(values) for name, values in {"cycle": whole, **times}.items()}


def _quantiles(values: list[float]) -> dict[str, float]:
    settled = 1e6 * np.asarray(values[len(values) // 10 :])
    p50, p99 = np.quantile(settled, [0.5, 0.99]) if len(settled) else (np.nan, np.nan)
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}


def wall_clock_violations(log: ControlLog) -> int:
    """Commands beyond a limit, differentiated on the grid of periods on which they were sent.

    From rest at the last command after every gap: the device has held it meanwhile.
    """
    control = log.robot.control
    sent = [cycle for cycle in log.cycles if cycle["has_command"]]
    if not sent:
        return 0
    now = np.array([cycle["now"] for cycle in sent])
    goals = np.array([cycle["command"] for cycle in sent], np.float64)
    start = np.array(sent[0]["state"]["position"], np.float64)
    limits = control.limits
    caps = [np.array(one) for one in (limits.velocity, limits.acceleration, limits.jerk)]
    largest = np.maximum(np.abs(limits.low), np.abs(limits.high))
    stretches = np.split(np.arange(len(now)), np.flatnonzero(np.diff(now) > 1.5 * control.dt) + 1)
    violations, before = 0, start
    for rows in stretches:
        path = np.vstack([[before] * 3, goals[rows]])
        beyond = np.zeros(len(rows), bool)
        for order, cap in enumerate(caps, 1):
            rate = np.abs(np.diff(path, order, axis=0))[3 - order :] / control.dt**order
            # Rounding of the positions, as far as it reaches into their differences.
            rounding = 8 * np.finfo(float).eps * 2**order * largest / control.dt**order
            beyond |= (rate > cap * (1 + 1e-6) + rounding).any(axis=1)
        violations += int(beyond.sum())
        before = goals[rows[-1]]
    return violations
