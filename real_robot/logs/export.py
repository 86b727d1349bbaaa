"""A log as text, table or picture."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding.plumbing.extras import require
from ...decoding.plumbing.files import replacing
from ..core.check import NAMES
from ..core.controller import GAP
from ..core.events import EventKind, Mode, Request
from ..core.limits import Vector
from .container import MAGIC
from .reader import ControlLog

JOINT_COLUMNS = ("state.position", "state.velocity", "reference", "command")
COLUMNS = ("now", "wake", "sent", "mode", "chunk", "age")
# What the files begin with.
CSV_START = ",".join(COLUMNS).encode()
PNG_START = b"\x89PNG\r\n\x1a\n"


def summary_lines(log: ControlLog) -> Iterator[str]:
    """What happened, for reading."""
    if not log.cycles:
        yield "the log holds no cycle"
        return
    now, wake, sent = log.column("now"), log.column("wake"), log.column("sent")
    late, busy = 1e6 * (wake - now), 1e6 * (sent - wake)
    yield (
        f"{log.robot.name}: {len(now)} cycles in {now[-1] - now[0]:.2f} s, "
        f"period {1e3 * log.robot.control.dt:g} ms, "
        + {0: "complete", -1: "cut off"}.get(log.dropped, f"{log.dropped} records missing")
    )
    gaps = np.diff(now)[np.diff(now) > GAP * log.robot.control.dt]
    if len(gaps):
        why = "or its record" if log.dropped else "of the loop"
        yield f"gaps without a cycle {why}: {len(gaps)}, the longest {gaps.max():.3f} s"
    for name, values in (("wake error", late), ("computation", busy)):
        p50, p99 = np.quantile(values, (0.5, 0.99))
        yield f"{name}: p50 {p50:.0f} us, p99 {p99:.0f} us, max {values.max():.0f} us"
    modes, counts = np.unique(log.column("mode").astype(int), return_counts=True)
    shares = ", ".join(f"{Mode(m).name} {c}" for m, c in zip(modes, counts, strict=True))
    yield f"cycles by state: {shares}"
    peaks = peak_shares(log)
    yield "largest share of a limit: " + ", ".join(
        f"{name} {share:.1%}" for name, share in zip(NAMES, peaks, strict=True)
    )
    for event in log.events:
        text = log.robot.name_joints(event["text"])
        yield f"{event['time']:12.3f}  {EventKind(event['kind']).name}  {text}"


def check_target(path: Path, start: bytes, others: Sequence[Path]) -> None:
    """Raise ValueError if writing to `path` would replace anything but an earlier export.

    Args:
        path: Where to write.
        start: What an export of this kind begins with.
        others: The log, and what else is going to be written.
    """
    for other in others:
        if path.absolute() == other.absolute() or (path.exists() and other.exists()
                                                   and path.samefile(other)):  # fmt: skip
            raise ValueError(f"{path} would be written over {other}; choose another name")
    if not path.exists():
        return
    if not path.is_file():
        raise ValueError(f"{path} is no file; give the name of one, which may be new")
    with path.open("rb") as file:
        found = file.read(max(len(MAGIC), len(start)))
    if found.startswith(MAGIC):
        raise ValueError(f"{path} is a log, which is never overwritten")
    if found and not found.startswith(start):
        raise ValueError(
            f"{path} is there and no earlier export of this kind; remove it, or choose another name"
        )


def peak_shares(log: ControlLog) -> list[float]:
    """Largest commanded velocity, acceleration and jerk as shares of their limits.

    Time counts, not rows: after a gap a robot goes on from rest, where it was told to be last. If
    records are missing, nobody knows what was sent meanwhile, and each stretch stands alone.
    """
    bounds, dt = log.robot.control.limits.arrays, log.robot.control.dt
    shares: list[float] = []
    for order, name in enumerate(NAMES, start=1):
        peaks = [
            (np.abs(np.diff(rows, order, axis=0)) / dt**order / getattr(bounds, name)).max(
                initial=0.0
            )
            for rows in _stretches(log)
        ]
        shares.append(float(max(peaks, default=0.0)))
    return shares


def _stretches(log: ControlLog) -> list[Vector]:
    """Commands that followed each other without a gap, each of shape (K, D)."""
    sent = log.column("has_command").astype(bool)
    times, commands = log.column("now")[sent], log.column("command")[sent]
    # A robot that was armed again may have been moved by hand.
    armed = log.column("request")[sent] == Request.ARM
    starts = np.flatnonzero((np.diff(times) > GAP * log.robot.control.dt) | armed[1:]) + 1
    first, *others = np.split(commands, starts)
    return [first] + [
        rows if armed[start] or log.dropped else np.concatenate([commands[[start - 1] * 3], rows])
        for start, rows in zip(starts, others, strict=True)
    ]


def write_csv(log: ControlLog, path: Path) -> None:
    """Write one row per cycle; the file appears when it is complete."""
    columns: dict[str, Vector] = {name: log.column(name) for name in COLUMNS}
    for name in JOINT_COLUMNS:
        rows = log.column(name)
        for joint in range(rows.shape[1]):
            columns[f"{name}.{joint}"] = rows[:, joint]
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(np.stack(list(columns.values()), axis=1).tolist())


def plot_log(log: ControlLog, path: Path) -> None:
    """Draw each joint's measurement, reference and command, and the wake error below, as PNG."""
    require("matplotlib", "plot").use("Agg")
    pyplot: Any = require("matplotlib.pyplot", "plot")
    time = log.column("now") - log.column("now")[0]
    joints = log.column("command").shape[1]
    figure, axes = pyplot.subplots(
        joints + 1, 1, sharex=True, figsize=(10, 1.6 * (joints + 1)), layout="constrained"
    )
    sent = log.column("has_command").astype(bool)
    for joint, axis in enumerate(axes[:-1]):
        axis.plot(time, log.column("reference")[:, joint], lw=0.8, label="reference")
        axis.plot(time[sent], log.column("command")[sent, joint], lw=1.2, label="command")
        axis.plot(time, log.column("state.position")[:, joint], lw=0.8, label="measured")
        axis.set_ylabel(f"joint {joint}")
    axes[0].legend(loc="upper right", ncols=3, fontsize="small")
    axes[-1].plot(time, 1e6 * (log.column("wake") - log.column("now")), lw=0.5)
    axes[-1].set_ylabel("wake error [us]")
    axes[-1].set_xlabel("time [s]")
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120, format="png")
    pyplot.close(figure)
