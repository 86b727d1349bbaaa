"""Checks of a machine: packages, scheduling rights, punctuality."""

from __future__ import annotations

import json
import subprocess
from importlib.util import find_spec

from ...decoding.plumbing.processes import module_command
from ..runtime import jitter
from .findings import Finding

PACKAGES = {
    "ruckig": "control",
    "mcap": "control",
    "mujoco": "mujoco",
    "dynamixel_sdk": "servo",
    "scservo_sdk": "servo",
}
HIGHEST_RATE = 10_000.0  # [Hz]
LONGEST_TEST = 600.0  # [s]
# Share of late cycles that a robot arm on a host clock gets along with.
LATE_SHARE = 0.02


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
        module_command(jitter.__name__, str(rate), str(seconds)),
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
