"""Rows of `benchmark_robomimic.py` over training seeds: intervals, paired differences, tables.

python tests/benchmarks/robomimic_table.py OUTPUT.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hotloop.envs.statistics import bootstrap_interval, wilson_interval

Row = dict[str, Any]
BASELINE = "dp"
LABELS = {
    ("dp", 10): "Diffusion Policy, 10 calls",
    ("sdp", None): "Streaming, all calls",
    ("sdp", 2): "Streaming, 2 calls",
    ("sdp", 1): "Streaming, 1 call",
    ("student", 1): "**Streaming, distilled, 1 call**",
}


def summaries(scores: Sequence[Row]) -> Iterator[Row]:
    """One row per task, kind and setting, and one per task that has an absolute form."""
    for task in dict.fromkeys(row["task"] for row in scores):
        for kind, calls in LABELS:
            rows = _chosen(scores, task, kind, calls)
            if not rows:
                continue
            solved = np.concatenate([row["scores"] for row in rows])
            low, high = wilson_interval(int(solved.sum()), len(solved))
            summary: Row = {"part": "summary", "task": task, "kind": kind, "calls_per_step": calls}
            summary["pc_success"] = 100 * float(solved.mean())
            summary["pc_success_ci95"] = [100 * low, 100 * high]
            summary["n"] = len(solved)
            summary["per_training_seed"] = {str(row["seed"]): row["pc_success"] for row in rows}
            if kind != BASELINE:
                summary["minus_dp"] = difference(_chosen(scores, task, BASELINE, 10), rows)
            if task.endswith("-abs"):
                delta = _chosen(scores, task.removesuffix("-abs"), kind, calls)
                summary["minus_delta"] = difference(delta, rows)
            yield summary


def difference(first: Iterable[Row], second: Iterable[Row]) -> Row | None:
    """Second minus first over the same training seeds and episodes; None without any."""
    before = {row["seed"]: np.array(row["scores"]) for row in first}
    pairs = [
        (before[row["seed"]], np.array(row["scores"]))
        for row in second
        if row["seed"] in before and len(before[row["seed"]]) == len(row["scores"])
    ]
    if not pairs:
        return None
    gains = np.concatenate([after - earlier for earlier, after in pairs])
    low, high = bootstrap_interval(gains)
    return {
        "mean": float(gains.mean()),
        "ci95": [low, high],
        "better": int((gains > 0).sum()),
        "worse": int((gains < 0).sum()),
        "n": len(gains),
    }


def format_tables(rows: Sequence[Row]) -> str:
    """Markdown for the results page: success and the paired difference to ten calls of DP."""
    found = [row for row in rows if row["part"] == "summary"]
    tasks = list(dict.fromkeys(row["task"] for row in found))
    lines = [f"| policy | {' | '.join(tasks)} |", "|---" * (1 + len(tasks)) + "|"]
    for (kind, calls), label in LABELS.items():
        cells = [_cell(_find(found, task, kind, calls), "minus_dp") for task in tasks]
        if any(cells):
            lines.append(f"| {label} | {' | '.join(cells)} |")
    absolute = [task for task in tasks if task.endswith("-abs")]
    if absolute:
        lines += ["", f"| absolute minus delta | {' | '.join(absolute)} |"]
        lines.append("|---" * (1 + len(absolute)) + "|")
        for (kind, calls), label in LABELS.items():
            pairs = [_find(found, task, kind, calls) for task in absolute]
            cells = [_points((row or {}).get("minus_delta")) for row in pairs]
            if any(cells):
                lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Row | None, compared: str) -> str:
    """Success with its interval, and the difference; empty without a row."""
    if row is None:
        return ""
    low, high = row["pc_success_ci95"]
    seeds = len(row["per_training_seed"])
    text = f"{row['pc_success']:.0f} % ({low:.0f} to {high:.0f}, {seeds} x {row['n'] // seeds})"
    points = _points(row.get(compared))
    return f"{text}, {points}" if points else text


def _points(gain: Row | None) -> str:
    """A paired difference with its interval, in points; empty if there is none."""
    if gain is None:
        return ""
    mean, low, high = (100 * value for value in (gain["mean"], *gain["ci95"]))
    return f"{mean:+.0f} ({low:+.0f} to {high:+.0f})"


def _chosen(rows: Iterable[Row], task: str, kind: str, calls: int | None) -> list[Row]:
    wanted = {"task": task, "kind": kind, "calls_per_step": calls}
    return [row for row in rows if wanted.items() <= row.items()]


def _find(rows: Iterable[Row], task: str, kind: str, calls: int | None) -> Row | None:
    return next(iter(_chosen(rows, task, kind, calls)), None)


if __name__ == "__main__":
    print(format_tables(json.loads(Path(sys.argv[1]).read_text())["rows"]))
