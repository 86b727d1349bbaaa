"""The loop's counts as numbers for a file, and as a line for the operator."""

from __future__ import annotations

from typing import Any

from ..core.events import Mode
from .channels import read_text
from .shared import Record


def counts(status: Record) -> dict[str, Any]:
    """The last status as JSON-able numbers."""
    cycles = int(status["cycles"])
    return {
        "clean_end": bool(status["finished"]),
        "mode": Mode(int(status["mode"])).name,
        "cycles": cycles,
        "late_cycles": int(status["late"]),
        "skipped_cycles": int(status["skipped"]),
        "wake_us": {
            "p50": round(1e6 * float(status["wake_p50"])),
            "p99": round(1e6 * float(status["wake_p99"])),
            "max": round(1e6 * float(status["wake_max"])),
        },
        "compute_us": {
            "p50": round(1e6 * float(status["compute_p50"])),
            "p99": round(1e6 * float(status["compute_p99"])),
        },
        "accepted_chunks": int(status["accepted"]),
        "rejected_chunks": int(status["rejected"]),
        "limit_hits": int(status["limit_hits"]),
        "limit_violations": int(status["violations"]),
        "bus_failures": int(status["bus_failures"]),
        "peak_share_of_limit": {
            name: round(float(status[name]), 9) for name in ("velocity", "acceleration", "jerk")
        },
        "log_records_dropped": int(status["log_dropped"]),
        "torch_in_control_process": bool(status["torch"]),
        "realtime": read_text(status, "realtime"),
        "failure": read_text(status, "failure"),
    }


def status_line(status: Record, dt: float) -> str:
    """One line for the operator."""
    cycles, skipped = int(status["cycles"]), int(status["skipped"])
    rate = cycles / max((cycles + skipped) * dt, dt)
    p50, p99 = 1e6 * float(status["wake_p50"]), 1e6 * float(status["wake_p99"])
    return (
        f"{Mode(int(status['mode'])).name:5} {rate:6.1f} Hz  wake {p50:.0f} / {p99:.0f} us (p50 / "
        f"p99)  late {int(status['late'])}  skipped {skipped}  chunk age {status['age']:.2f} s  "
        f"rejected {int(status['rejected'])}  limit hits {int(status['limit_hits'])}  violations "
        f"{int(status['violations'])}"
    )
