"""Pictures for the README: scores against latencies, and paths of a demo's policies.

    python tests/benchmarks/demo_pictures.py outputs/demo/report.json

Draws ``results/pareto.png`` from the numbers that the report of `hotloop demo` shows too, and
``results/rollouts.png`` from the paths in the given report; measures nothing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from hotloop.envs.pillars import GOAL, GOAL_RADIUS, PILLAR_RADIUS, PILLARS, PUCK_RADIUS
from hotloop.train.demo.report import Pareto
from hotloop.train.demo.rollouts import DECISION_X
from hotloop.train.demo.scene_plot import REACHED, TOUCHED
from hotloop.train.demo.texts import measured_before
from hotloop.train.measure.latency_plot import COLORS
from hotloop.train.measure.pareto_plot import PLACES

RESULTS = Path(__file__).parent / "results"
SHOWN = {
    "Demonstrations": "Demonstrations: a side of each pillar at random",
    "Diffusion Policy, 10 calls": "Diffusion Policy, 10 network calls per plan",
    "Diffusion Policy, 1 call": "Diffusion Policy, 1 call: the mean of two ways",
    "Streaming, 1 call, distilled": "Streaming, distilled, 1 call",
}


def draw_pareto(path: Path) -> None:
    """One panel per task."""
    figure = Figure(figsize=(11, 3.7), layout="constrained")
    for axes, pareto in zip(figure.subplots(1, 3), measured_before(), strict=True):
        pareto_panel(axes, pareto)
    figure.savefig(path, dpi=100)


def pareto_panel(axes: Axes, pareto: Pareto) -> None:
    """A line with intervals for each series, and a label at each point."""
    for index, series in enumerate(dict.fromkeys(point.series for point in pareto.points)):
        points = sorted(
            (point for point in pareto.points if point.series == series),
            key=lambda point: point.median_ms,
        )
        times, scores = [one.median_ms for one in points], [one.score for one in points]
        below = [one.score - one.interval[0] for one in points]
        above = [one.interval[1] - one.score for one in points]
        colour, (dx, dy, anchor) = COLORS[index], PLACES[index]
        axes.errorbar(
            times, scores, (below, above), color=colour, marker="o", alpha=0.8, label=series
        )
        for one in points:
            axes.annotate(
                one.label,
                (one.median_ms, one.score),
                xytext=(dx * 0.8, -dy * 0.8),
                textcoords="offset points",
                ha="left" if anchor == "start" else "center",
                va="center",
                fontsize=8,
            )
    axes.set(xscale="log", ylim=pareto.shown, xlabel="control step that plans, median [ms]")
    times = [point.median_ms for point in pareto.points]
    axes.set_xlim(min(times) / 1.9, max(times) * 2.6)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title(pareto.title, fontsize=10, fontweight="bold")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="lower right")


def draw_rollouts(report: dict[str, Any], path: Path) -> None:
    """Four panels of paths from one start."""
    figure = Figure(figsize=(9.6, 3.7), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(2, 2).flat, SHOWN.items(), strict=True):
        panel = report["panels"][name]
        scene(axes)
        for points, reached in zip(panel["paths"], panel["reached"], strict=True):
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=REACHED if reached else TOUCHED, alpha=0.5, linewidth=1)
            if not reached:
                axes.plot(x[-1], y[-1], "x", color=TOUCHED, markersize=5)
        arrived = f"{sum(panel['reached'])} of {len(panel['reached'])} arrive"
        axes.set_title(f"{title}\n{arrived}", fontsize=9)
    figure.savefig(path, dpi=110)


def scene(axes: Axes) -> None:
    """Goal, pillars with the ring that the puck's centre must not enter, and the dashed line."""
    axes.add_patch(Circle((GOAL[0], GOAL[1]), GOAL_RADIUS, color="#90dc96"))
    for x in PILLARS:
        axes.add_patch(Circle((x, 0), PILLAR_RADIUS + PUCK_RADIUS, color="#54546033", linewidth=0))
        axes.add_patch(Circle((x, 0), PILLAR_RADIUS, color="#545460"))
    axes.axvline(DECISION_X, color="black", alpha=0.25, linestyle=":")
    axes.set(xlim=(-0.7, 1.72), ylim=(-0.36, 0.36), aspect="equal")
    axes.axis("off")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    args = parser.parse_args()
    draw_pareto(RESULTS / "pareto.png")
    draw_rollouts(json.loads(args.report.read_text()), RESULTS / "rollouts.png")
