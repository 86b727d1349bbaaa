"""Score against latency of a planner's settings, one line per way of using the draft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

MARKERS = {
    "noised": "o",
    "clean": "s",
    "no draft": "^",
    "rollout": "D",
    "distilled": "*",
    "critic": "P",
}
LABELS = {
    "noised": "draft, noised injection",
    "clean": "draft, clean injection",
    "no draft": "no draft",
    "rollout": "draft rolled out anew",
    "distilled": "draft, guidance distilled",
    "critic": "draft, best of 16 by critic",
}


def plot_scores(rows: list[dict[str, Any]], path: Path) -> None:
    """Write a picture of the rows, each labelled with its number of refinement steps."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for series, marker in MARKERS.items():
        chosen = [row for row in rows if row["series"] == series and "median_ms" in row]
        chosen.sort(key=lambda row: row["setting"]["calls_per_step"])
        if not chosen:
            continue
        times, scores = [r["median_ms"] for r in chosen], [r["score"] for r in chosen]
        errors = [r["standard_error"] for r in chosen]
        axes.errorbar(times, scores, errors, marker=marker, capsize=2, label=LABELS[series])
        for row in chosen:
            text, place = f"{row['setting']['calls_per_step']}", (row["median_ms"], row["score"])
            axes.annotate(text, place, xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", xlabel="control step, median [ms]", ylabel="normalised score")
    axes.set_title(
        f"{rows[0]['dataset']}: N refinement steps, mean and standard error of the score"
    )
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
