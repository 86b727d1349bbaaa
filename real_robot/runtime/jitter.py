"""How punctually this machine wakes a process: ``python -m … RATE SECONDS`` prints JSON."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing

from .realtime import follow_parent, request_realtime
from .shared import Histogram
from .tally import Durations


def measure(rate: float, seconds: float) -> dict[str, float | int]:
    """Sleep to absolute deadlines and count how late the waking is."""
    dt, late = 1 / rate, 0
    cycles = max(int(rate * seconds), 1)
    with closing(Histogram()) as histogram:
        durations = Durations(histogram)
        start = time.monotonic() + 0.05
        for cycle in range(cycles):
            deadline = start + cycle * dt
            time.sleep(max(deadline - time.monotonic(), 0.0))
            error = time.monotonic() - deadline
            durations.add(error)
            late += error > dt / 2
        p50, p99 = durations.quantiles(0.5, 0.99)
    return {
        "cycles": cycles,
        "late": late,
        "p50_us": 1e6 * p50,
        "p99_us": 1e6 * p99,
        "max_us": 1e6 * durations.largest,
    }


if __name__ == "__main__":
    rate, seconds = map(float, sys.argv[1:])
    follow_parent()
    granted = request_realtime()
    print(json.dumps({"realtime": granted, **measure(rate, seconds)}))
