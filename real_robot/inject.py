"""Faults on purpose: what a broken policy would send, to see the control loop refuse it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .core.trajectory import Chunk


def _nan(chunk: Chunk) -> Chunk:
    waypoints = np.array(chunk.waypoints)
    waypoints[len(waypoints) // 2, 0] = np.nan
    return replace(chunk, waypoints=waypoints)


def _silence(chunk: Chunk) -> Chunk:
    time.sleep(1.0)
    return chunk


def _kill(chunk: Chunk) -> Chunk:
    os.kill(os.getpid(), signal.SIGKILL)
    return chunk


# What becomes of every tenth chunk.
FAULTS: dict[str, Callable[[Chunk], Chunk]] = {
    "nan": _nan,
    "empty": lambda chunk: replace(chunk, times=chunk.times[:0], waypoints=chunk.waypoints[:0]),
    "reversed": lambda chunk: replace(chunk, times=np.array(chunk.times[::-1])),
    "far-future": lambda chunk: replace(chunk, times=chunk.times + 1000.0),
    "jump": lambda chunk: replace(chunk, waypoints=chunk.waypoints + 1e6),
    "step": lambda chunk: replace(chunk, waypoints=chunk.waypoints + 0.05),
    "silence": _silence,
    "kill": _kill,
}
EVERY = 10


def inject(fault: str, chunk: Chunk) -> Chunk:
    """Return the chunk, or in every tenth call the chunk with the named fault.

    Raises:
        ValueError: If there is no such fault.
    """
    check_fault(fault)
    if fault and chunk.sequence % EVERY == EVERY - 1:
        return FAULTS[fault](chunk)
    return chunk


def check_fault(fault: str) -> None:
    """Raise ValueError unless `fault` is empty or the name of one."""
    if fault and fault not in FAULTS:
        raise ValueError(f"inject must be one of {sorted(FAULTS)}, or empty, got {fault!r}")
