"""Ask the system for punctuality, and report plainly what it granted."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path

PRIORITY = 80
CPU_LATENCY = Path("/dev/cpu_dma_latency")
MCL_CURRENT, MCL_FUTURE = 1, 2
PR_SET_PDEATHSIG = 1


def request_realtime(priority: int = PRIORITY) -> str:
    """Fixed priority, awake processors, locked memory, no garbage collection; says what it got.

    Nothing here is required: without the rights the loop runs and is late more often.
    """
    return "; ".join((_schedule(priority), _keep_awake(), _lock_memory(), freeze_garbage()))


def _schedule(priority: int) -> str:
    if not hasattr(os, "sched_setscheduler"):
        return "scheduling: normal (this system has no SCHED_FIFO)"
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        return "scheduling: normal (SCHED_FIFO not permitted: needs an rtprio limit or root)"
    return f"scheduling: SCHED_FIFO {priority}"


def _keep_awake() -> str:
    """Ask that no processor sleeps so deeply that waking it takes time.

    The wish lasts as long as the file is open, which is until this process ends: see the kernel's
    Documentation/power/pm_qos_interface.rst.
    """
    try:
        descriptor = os.open(CPU_LATENCY, os.O_WRONLY | os.O_CLOEXEC)
        os.write(descriptor, struct.pack("=i", 0))
    except OSError as error:
        return f"processor sleep: as always ({CPU_LATENCY}: {error.strerror})"
    return "processor sleep: none"


def _lock_memory() -> str:
    if sys.platform != "linux":
        return "memory: not locked (Linux only)"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT | MCL_FUTURE) != 0:
        return f"memory: not locked ({os.strerror(ctypes.get_errno())})"
    return "memory: locked"


def freeze_garbage() -> str:
    """Collect once, then never: a full collection takes 0.1 s with a large library loaded."""
    gc.collect()
    gc.freeze()
    gc.disable()
    return "garbage collector: off"


def on_signals(react: Callable[[], None]) -> None:
    """Call `react` on SIGTERM, SIGINT and SIGHUP instead of dying on the spot."""

    def handler(number: int, frame: object) -> None:
        react()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handler)


def follow_parent() -> None:
    """Let the system send SIGTERM to this process when its parent dies, however it dies."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            # It died before the request.
            os.kill(os.getpid(), signal.SIGTERM)
