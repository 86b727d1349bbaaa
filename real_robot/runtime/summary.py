"""The loop's counts as numbers for a file, as a line for the operator, and as a verdict."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..config import RobotConfig
from ..core.events import Mode
from .channels import Channels, read_text
from .shared import Record

SHORTEST_HOLD = 2.0  # [s] without a chunk at the end that make a run one without a policy
SHORTEST_OVERRUN = 0.25  # [s] of cycles that any run may leave out, however short it was


def counts(status: Record, channels: Channels | None = None) -> dict[str, Any]:
    """A status as JSON-able numbers.

    Args:
        status: The last one.
        channels: Of the run, for quantiles while it goes on: only the very last status has them.
    """
    return {
        "clean_end": bool(status["finished"]),
        "mode": Mode(int(status["mode"])).name,
        "cycles": int(status["cycles"]),
        "late_cycles": int(status["late"]),
        "skipped_cycles": int(status["skipped"]),
        "unsent_commands": int(status["unsent"]),
        "wake_us": {
            **_microseconds(status, channels, "wake"),
            "max": round(1e6 * float(status["wake_max"])),
        },
        "compute_us": _microseconds(status, channels, "compute"),
        "accepted_chunks": int(status["accepted"]),
        "rejected_chunks": int(status["rejected"]),
        "limit_hits": int(status["limit_hits"]),
        "limit_violations": int(status["violations"]),
        "bus_failures": int(status["bus_failures"]),
        "peak_share_of_limit": {
            name: round(float(status[name]), 9) for name in ("velocity", "acceleration", "jerk")
        },
        "chunk_age": round(float(status["age"]), 3) if np.isfinite(status["age"]) else None,
        "log_records_dropped": int(status["log_dropped"]),
        "torch_in_control_process": bool(status["torch"]),
        "realtime": read_text(status, "realtime"),
        "failure": read_text(status, "failure"),
    }


def _microseconds(status: Record, channels: Channels | None, name: str) -> dict[str, int]:
    found = status[f"{name}_p50"], status[f"{name}_p99"]
    if channels is not None and not status["finished"]:
        found = getattr(channels, name).quantiles(0.5, 0.99)
    p50, p99 = (round(1e6 * float(value)) for value in found)
    return {"p50": p50, "p99": p99}


def status_line(status: Record, dt: float, channels: Channels | None = None) -> str:
    """One line for the operator; see `counts`."""
    cycles, skipped = int(status["cycles"]), int(status["skipped"])
    rate = cycles / max((cycles + skipped) * dt, dt)
    wake = _microseconds(status, channels, "wake")
    return (
        f"{Mode(int(status['mode'])).name:5} {rate:6.1f} Hz  wake {wake['p50']} / {wake['p99']} us "
        f"(p50 / p99)  late {int(status['late'])}  skipped {skipped}  chunk age "
        f"{status['age']:.2f} s  rejected {int(status['rejected'])}  limit hits "
        f"{int(status['limit_hits'])}  violations {int(status['violations'])}"
    )


def failures(summary: dict[str, Any], robot: RobotConfig) -> list[str]:
    """Why a run is no success, in sentences; nothing if it went as it was meant to."""
    cycles, skipped = summary["cycles"], summary["skipped_cycles"]
    lost = skipped + summary["unsent_commands"]
    share = lost / max(cycles + skipped, 1)
    overrun = share > robot.overrun_budget and lost * robot.control.dt > SHORTEST_OVERRUN
    age = summary["chunk_age"]
    # A robot that has stopped takes no chunks any more.
    starved = (
        summary["ended_by"] == "duration" and not summary["stop_reason"]
        and age is not None and age > SHORTEST_HOLD
    )  # fmt: skip
    died = not summary["finished"] and str(summary["ended_by"]).endswith(" died")
    found = {
        "the control loop did not end by itself": not summary["clean_end"],
        f"the control loop failed: {summary['failure']}": summary["failure"],
        f"the robot stopped: {summary['stop_reason']}": summary["stop_reason"],
        "the robot was stopped": not summary["finished"] and summary["ended_by"] == "stop"
            and not summary["stop_reason"],
        f"{summary['ended_by']}: {summary['policy_failure']}".removesuffix(": "):
            died,
        f"the policy failed at the end: {summary['policy_failure']}":
            summary["policy_failure"] and not died,
        f"all {summary['rejected_chunks']} chunks were refused, see the events":
            summary["rejected_chunks"] and not summary["accepted_chunks"],
        f"no good chunk came in the last {age} s": starved,
        f"{summary['limit_violations']} commands were beyond the limits and withheld":
            summary["limit_violations"],
        f"{lost} of {cycles + skipped} cycles were left out or sent nothing, overrun_budget allows "
        f"{robot.overrun_budget:.0%}": overrun,
        f"the log is not complete: {summary['log_failure']}": summary["log_failure"],
        f"{summary['log_records_dropped']} records never reached the log":
            summary["log_records_dropped"],
        str(summary["lost_cameras"]): summary["lost_cameras"],
    }  # fmt: skip
    return [reason for reason, holds in found.items() if holds]
