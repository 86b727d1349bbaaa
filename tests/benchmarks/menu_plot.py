"""Score against latency of every way to make a policy faster, one panel per task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

MARKERS = "osD^vP*X"
UNDISTILLED = "not distilled"
APART = 1.03  # students of one network take equally long, and would hide each other


def plot_menu(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a picture of the summary rows that have a latency.

    Every point is labelled with its network calls; a hollow one plans less variedly than it may.

    Args:
        rows: ``task``, ``method``, ``calls``, ``score`` with ``score_ci95``, ``median_ms``, ``n``
            and ``collapsed``.
        path: PNG to write.
    """
    timed = [row for row in rows if row.get("median_ms")]
    tasks = list(dict.fromkeys(row["task"] for row in timed))
    if not tasks:
        return
    # A method looks the same in every panel.
    methods = [UNDISTILLED, *sorted({row["method"] for row in timed} - {UNDISTILLED})]
    looks = {method: index for index, method in enumerate(methods)}
    figure = Figure(figsize=(7 * len(tasks), 5), layout="constrained")
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for task, axes in zip(tasks, panels, strict=True):
        _panel([row for row in timed if row["task"] == task], task, looks, axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _panel(rows: Sequence[dict[str, Any]], task: str, looks: Mapping[str, int], axes: Axes) -> None:
    """One line per method, the best one first; what is not distilled is dashed."""
    best = {row["method"]: row["score"] for row in sorted(rows, key=lambda row: row["score"])}
    students = sorted(best.keys() - {UNDISTILLED}, key=lambda method: -best[method])
    for method in (UNDISTILLED, *students):
        _series([row for row in rows if row["method"] == method], looks[method], axes)
    axes.plot([], [], "o", color="0.35", markerfacecolor="none", label="hollow: varies too little")
    axes.set(xscale="log", ylabel="score")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("median of a control step that plans [ms], ONNX, one thread")
    axes.set_title(f"{task}, {rows[0]['n']} episodes: labels are network calls per plan")
    axes.legend(fontsize=8, loc="best")
    axes.grid(alpha=0.3)


def _series(rows: Sequence[dict[str, Any]], index: int, axes: Axes) -> None:
    """One method by latency: intervals, line, points and their labels."""
    colour = f"C{index - 1}" if index else "0.35"
    rows = sorted(rows, key=lambda row: row["median_ms"])
    marker, style = MARKERS[index % len(MARKERS)], "-" if index else "--"
    times = [row["median_ms"] * APART**index for row in rows]
    axes.plot(times, [row["score"] for row in rows], style, color=colour, linewidth=1, alpha=0.6)
    for time, row in zip(times, rows, strict=True):
        axes.plot([time] * 2, row["score_ci95"], color=colour, alpha=0.3, linewidth=1.5)
        (point,) = axes.plot(time, row["score"], marker, color=colour, markersize=6)
        if row["collapsed"]:
            point.set_markerfacecolor("white")
        axes.annotate(
            f"{row['calls']}",
            (time, row["score"]),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=7,
            color=colour,
        )
    if rows:
        axes.plot([], [], marker + style, color=colour, label=rows[0]["method"])
