"""Checks of a machine and of a robot's bus; nothing is moved."""

from __future__ import annotations

import json
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..decoding.plumbing.processes import module_command
from .config import RobotConfig
from .drivers import BusError, make_driver

PACKAGES = {
    "ruckig": "control",
    "mcap": "control",
    "mujoco": "mujoco",
    "dynamixel_sdk": "servo",
    "scservo_sdk": "servo",
}
NUM_READS = 200
HIGHEST_RATE = 10_000.0  # [Hz]
LONGEST_TEST = 600.0  # [s]
# Share of late cycles that a robot arm on a host clock gets along with.
LATE_SHARE = 0.02
LATENCY_TIMERS = Path("/sys/bus/usb-serial/devices")


class Finding(NamedTuple):
    """Result of one check."""

    good: bool
    text: str


def check_packages() -> list[Finding]:
    """Which optional packages are there; only the control loop's own are required."""
    findings: list[Finding] = []
    for module, extra in PACKAGES.items():
        present = find_spec(module) is not None
        state = "installed" if present else f"missing, pip install 'hotloop[{extra}]'"
        findings.append(Finding(present or extra != "control", f"{module}: {state}"))
    return findings


def check_jitter(rate: float, seconds: float) -> list[Finding]:
    """Wake up at a fixed rate in a fresh process, with what real-time rights there are."""
    if not (0 < rate <= HIGHEST_RATE and 0 < seconds < LONGEST_TEST):
        raise ValueError(
            f"rate must be above 0 and at most {HIGHEST_RATE:g} Hz, seconds above 0 and below "
            f"{LONGEST_TEST:g}, got {rate} and {seconds}"
        )
    process = subprocess.run(
        module_command(f"{__package__}.runtime.jitter", str(rate), str(seconds)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result = json.loads(process.stdout)
    late = result["late"] / result["cycles"]
    return [
        Finding("SCHED_FIFO" in result["realtime"], result["realtime"]),
        Finding(
            late <= LATE_SHARE,
            f"{rate:g} Hz for {seconds:g} s: wake error p50 {result['p50_us']:.0f} us, p99 "
            f"{result['p99_us']:.0f} us, max {result['max_us']:.0f} us, {late:.2%} of the cycles "
            "more than half a period late",
        ),
    ]


def check_robot(config: RobotConfig) -> list[Finding]:
    """Time the bus and compare the pose with the limits; the robot holds where it is."""
    driver = make_driver(config)
    try:
        driver.connect()
    except OSError as error:
        return [*_latency_timer(config), Finding(False, f"{config.name}: {error}")]
    durations: list[float] = []
    failures, position = 0, None
    try:
        for _ in range(NUM_READS):
            began = time.perf_counter()
            try:
                position = driver.read().position
            except BusError:
                failures += 1
            durations.append(1e3 * (time.perf_counter() - began))
    finally:
        driver.disconnect(config.torque_off)
    p50, p99 = np.quantile(durations, (0.5, 0.99))
    period = 1e3 * config.control.dt
    findings = [
        *_latency_timer(config),
        Finding(failures == 0, f"{failures} of {NUM_READS} reads failed"),
        Finding(
            bool(p99 < period),
            f"one read: p50 {p50:.2f} ms, p99 {p99:.2f} ms, of a period of {period:g} ms",
        ),
    ]
    if position is not None:
        bounds = config.control.limits.arrays
        inside = (bounds.low <= position) & (position <= bounds.high)
        pose = ", ".join(f"{value:.3f}" for value in position)
        findings.append(Finding(bool(inside.all()), f"joints at [{pose}]"))
    return findings


def _latency_timer(config: RobotConfig) -> list[Finding]:
    """An FTDI adapter holds back bytes for 16 ms unless its latency timer is set to 1 ms."""
    device = Path(str(config.options.get("port", ""))).name
    timer = LATENCY_TIMERS / device / "latency_timer"
    if not device or not timer.is_file():
        return []
    value = int(timer.read_text())
    advice = "" if value <= 1 else f"; as root: echo 1 > {timer}"
    return [Finding(value <= 1, f"latency timer of {device}: {value} ms{advice}")]
