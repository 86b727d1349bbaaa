"""Write the result of `hotloop demo` as one self-contained HTML page and as JSON beside it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding.plumbing.files import write_text
from ..measure.latency_plot import latency_plot
from ..measure.page import TableRow, command_list, facts_list, page, table
from ..measure.pareto_plot import ParetoPoint, pareto_plot
from .page import BODY, COLUMNS
from .rollouts import Rollouts
from .scene_plot import scene_plot


@dataclass(frozen=True)
class Animation:
    """A recorded rollout.

    Attributes:
        data: Content of a video or image file.
        mime: Its type, e.g. ``"video/mp4"`` or ``"image/gif"``.
        caption: What is to be seen.
    """

    data: bytes
    mime: str
    caption: str

    def __post_init__(self) -> None:
        """Reject types that no browser plays."""
        if not self.mime.startswith(("video/", "image/")):
            raise ValueError(f"mime must be a video/ or image/ type, got {self.mime!r}")


@dataclass(frozen=True, eq=False)
class PolicyRow:
    """One policy in the results table.

    Attributes:
        name: E.g. ``"Streaming diffusion, 1 call"``.
        calls_per_step: Network calls per plan.
        num_execute: Actions executed per plan, Ta.
        success: Share of successful episodes.
        ci95: Bounds of its 95 % interval.
        seeds: Seed of each evaluated episode.
        latency_ms: Time from observation to action of each measured plan [ms], shape (n,).
    """

    name: str
    calls_per_step: int
    num_execute: int
    success: float
    ci95: tuple[float, float]
    seeds: Sequence[int]
    latency_ms: np.ndarray

    def __post_init__(self) -> None:
        """Reject numbers that cannot be measurements; NaN never passes."""
        # An interval's bound may miss a rate of 0 or 1 by rounding.
        ordered = (0.0, self.ci95[0], self.success, self.ci95[1], 1.0)
        if not (np.diff(ordered) > -1e-9).all():
            raise ValueError(
                f"{self.name}: success must lie within ci95, both within [0, 1]; "
                f"got {self.success} and {self.ci95}"
            )
        if not self.seeds:
            raise ValueError(f"{self.name}: expected the seed of at least one episode, got none")
        latency = self.latency_ms
        if not (latency.size and (np.isfinite(latency) & (latency > 0)).all()):
            raise ValueError(f"{self.name}: latency_ms must hold positive numbers, got {latency}")

    def numbers(self) -> dict[str, Any]:
        """Return what the table shows, JSON-able."""
        median, p99 = (float(np.quantile(self.latency_ms, q)) for q in (0.5, 0.99))
        return {
            "name": self.name,
            "calls_per_step": self.calls_per_step,
            "num_execute": self.num_execute,
            "success": self.success,
            "ci95": list(self.ci95),
            "num_episodes": len(self.seeds),
            "seeds": list(self.seeds),
            "num_latencies": len(self.latency_ms),
            "median_ms": median,
            "p99_ms": p99,
            "rate_hz": 1000.0 / median,
        }


@dataclass(frozen=True)
class Panel:
    """Paths of one policy, or of the demonstrations, from one start.

    Attributes:
        title: Whose paths they are.
        comment: What is to be seen.
        rollouts: The paths.
    """

    title: str
    comment: str
    rollouts: Rollouts


@dataclass(frozen=True)
class Pareto:
    """Scores against latencies on one task.

    Attributes:
        title: Task and score.
        shown: Lowest and highest score of the axis.
        points: Ways of running policies on it.
        source: What was measured, how and where.
    """

    title: str
    shown: tuple[float, float]
    points: tuple[ParetoPoint, ...]
    source: str


@dataclass(frozen=True, eq=False)
class DemoReport:
    """Everything on the page.

    Attributes:
        headline: The result in one sentence.
        summary: A few sentences on what was done.
        rows: Compared policies.
        note: What else is to be known of the table.
        explanation: Why the rows differ, one text per paragraph.
        panels: Pictures beside it.
        pareto: Scores against latencies, this run's and others'.
        facts: Environment, training and hardware, a short text per name.
        commands: How to go on: shell command and what it does.
        seconds: How long stages took [s].
        animation: A rollout of the best policy, if one was recorded.
    """

    headline: str
    summary: str
    rows: Sequence[PolicyRow]
    facts: Mapping[str, str]
    commands: Mapping[str, str]
    note: str = ""
    explanation: Sequence[str] = ()
    panels: Sequence[Panel] = ()
    pareto: Sequence[Pareto] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    animation: Animation | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the page's content without the animation and the single latencies."""
        return {
            "headline": self.headline,
            "summary": self.summary,
            "rows": [row.numbers() for row in self.rows],
            "facts": dict(self.facts),
            "commands": dict(self.commands),
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "panels": {panel.title: panel.rollouts.to_json() for panel in self.panels},
        }


def write_report(path: str | Path, report: DemoReport) -> None:
    """Write the page to `path` and the same numbers as JSON beside it, each atomically.

    Args:
        path: HTML file; the JSON file has the same name with the suffix ``.json``.
        report: What to show.
    """
    path = Path(path)
    write_text(
        path.with_suffix(".json"), json.dumps(report.to_json(), indent=2, allow_nan=False) + "\n"
    )
    write_text(path, render(report))


def render(report: DemoReport) -> str:
    """Return the page as HTML that needs no other file and no network."""
    plot = latency_plot({row.name: row.latency_ms for row in report.rows}) if report.rows else ""
    body = BODY.substitute(
        headline=escape(report.headline),
        summary=escape(report.summary),
        rows=table("policy", COLUMNS, [_table_row(row.numbers()) for row in report.rows]),
        note=escape(report.note),
        explanation=_explanation(report),
        plot=plot,
        pareto=_pareto(report.pareto),
        animation=_figure(report.animation) if report.animation else "",
        facts=facts_list(report.facts),
        commands=command_list(report.commands),
    )
    return page("hotloop demo", body)


def _explanation(report: DemoReport) -> str:
    """Paragraphs, then the pictures of the paths."""
    if not report.explanation:
        return ""
    texts = "".join(f"<p>{escape(text)}</p>" for text in report.explanation)
    figures = "".join(
        f"<figure><figcaption><b>{escape(panel.title)}</b><span>{escape(panel.comment)}</span>"
        f"</figcaption>{scene_plot(panel.rollouts, escape(panel.title))}</figure>"
        for panel in report.panels
    )
    return f'<h2>Why they differ</h2>{texts}<div class="grid">{figures}</div>'


def _pareto(pareto: Sequence[Pareto]) -> str:
    """One picture per task."""
    if not pareto:
        return ""
    figures = "".join(
        f"<figure>{pareto_plot(one.title, one.points, one.shown)}"
        f"<figcaption><span>{escape(one.source)}</span></figcaption></figure>"
        for one in pareto
    )
    return f'<h2>Score against latency</h2><div class="grid top">{figures}</div>'


def _table_row(row: Mapping[str, Any]) -> TableRow:
    """Format one policy's numbers in the order of COLUMNS."""
    low, high = row["ci95"]
    rate = row["rate_hz"]
    cells = (
        f"{row['calls_per_step']}",
        f"{row['num_execute']}",
        f"<b>{row['success']:.1%}</b> <small>{low:.1%} to {high:.1%}</small>",
        f"{row['num_episodes']} <small>{_seed_range(row['seeds'])}</small>",
        f"{row['median_ms']:.3g} ms",
        f"{row['p99_ms']:.3g} ms",
        f"{rate:.3g} Hz" if rate < 1000 else f"{rate:.0f} Hz",
    )
    return TableRow(row["name"], cells)


def _seed_range(seeds: Sequence[int]) -> str:
    """Write many seeds as a range; the JSON has them all."""
    if len(seeds) <= 4:
        return f"seeds {', '.join(map(str, seeds))}"
    consecutive = list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    return (
        f"seeds {seeds[0]} to {seeds[-1]}" if consecutive else f"from {min(seeds)} to {max(seeds)}"
    )


def _figure(animation: Animation) -> str:
    """Embed a recording as a data URI."""
    source = f"data:{escape(animation.mime)};base64,{base64.b64encode(animation.data).decode()}"
    caption = escape(animation.caption)
    if animation.mime.startswith("video/"):
        media = f'<video controls autoplay loop muted playsinline src="{source}"></video>'
    else:
        media = f'<img alt="{caption}" src="{source}">'
    return f"<h2>A rollout</h2><figure>{media}<figcaption>{caption}</figcaption></figure>"
