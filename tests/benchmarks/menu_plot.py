"""Success against latency of every way to make a policy faster, one panel per task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

MARKERS = "osD^vP*X"
UNDISTILLED = "not distilled"


def plot_menu(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a picture of the summary rows that have a latency.

    Every point is labelled with its network calls; a hollow one plans less variedly than it may.

    Args:
        rows: ``task``, ``method``, ``calls``, ``success`` with ``success_ci95``, ``median_ms`` and
            ``collapsed``.
        path: PNG to write.
    """
    timed = [row for row in rows if row.get("median_ms")]
    tasks = list(dict.fromkeys(row["task"] for row in timed))
    if not tasks:
        return
    figure = Figure(figsize=(6.5 * len(tasks), 5), layout="constrained")
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for task, axes in zip(tasks, panels, strict=True):
        _panel([row for row in timed if row["task"] == task], task, axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _panel(rows: Sequence[dict[str, Any]], task: str, axes: Axes) -> None:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    methods.sort(key=lambda method: method != UNDISTILLED)
    for index, method in enumerate(methods):
        chosen = sorted(
            (row for row in rows if row["method"] == method), key=lambda row: row["median_ms"]
        )
        colour = "0.35" if method == UNDISTILLED else f"C{index - 1}"
        times, shares = [r["median_ms"] for r in chosen], [r["success"] for r in chosen]
        style = "--" if method == UNDISTILLED else "-"
        axes.plot(times, shares, style, color=colour, linewidth=1.2, alpha=0.7)
        for row in chosen:
            low, high = row["success_ci95"]
            place = row["median_ms"], row["success"]
            axes.plot([place[0]] * 2, [low, high], color=colour, alpha=0.25, linewidth=2)
            (point,) = axes.plot(*place, MARKERS[index % len(MARKERS)], color=colour, markersize=7)
            if row["collapsed"]:
                point.set_markerfacecolor("none")
            axes.annotate(
                f"{row['calls']}", place, xytext=(5, 5), textcoords="offset points", fontsize=8
            )
        axes.plot([], [], MARKERS[index % len(MARKERS)] + style, color=colour, label=method)
    num = rows[0]["n"]
    axes.set(xscale="log", xlabel="control step, median [ms], ONNX, one thread", ylabel="success")
    axes.set_title(f"{task}: success by network calls, {num} episodes")
    axes.legend(fontsize=8, loc="lower right")
    axes.grid(alpha=0.3)
