"""The parity report as one HTML page that needs no other file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from ...decoding.plumbing.files import write_text
from ..measure.diversity import MIN_RATIO
from ..measure.latency_plot import latency_plot
from ..measure.page import Column, TableRow, command_list, facts_list, page, table
from ..measure.pareto_plot import ParetoPoint, pareto_plot
from .report import MAX_LOSS, MAX_LOSS_BOUND, MIN_EPISODES, ParityReport, Row

_EXPLAINED = (
    f"On a par means: at most {MAX_LOSS:g} of the score lost on average, and a 95 % interval that "
    f"excludes a loss of {MAX_LOSS_BOUND:g}, over at least {MIN_EPISODES} episodes; all rows run "
    "the same ones. Diversity is the mean distance of two sampled plans at one state over the "
    f"teacher's: 1 is as varied, and below {MIN_RATIO:g}, which is marked, ways of doing the task "
    "are lost. The energy distance is 0 where both plan from the same distribution. Jerk is the "
    "third derivative of the executed actions, in half ranges per cubic second. Latency is the "
    "time from an observation to the next action in a control step that plans, one robot, the "
    "median."
)


def write_report(path: Path, report: ParityReport) -> None:
    """Write the page to `path` and the same numbers as JSON beside it, each atomically."""
    text = json.dumps(report.to_json(), indent=1, allow_nan=False)
    write_text(path.with_suffix(".json"), text + "\n")
    write_text(path, render(report))


def render(report: ParityReport) -> str:
    """Return the page."""
    engines = list(report.rows[0].latency)
    columns = [
        Column("calls", "network calls<br>per plan"),
        Column("score", "score<br>95 % interval"),
        Column("minus teacher", "minus teacher<br>95 % interval"),
        Column("diversity", "diversity<br>energy distance"),
        Column("jerk", "jerk"),
        *(Column(engine, f"latency<br>{escape(engine)}") for engine in engines),
    ]
    rows = [TableRow(row.name, _cells(report, row, engines)) for row in report.rows]
    body = (
        f"<h1>{escape(report.sentence)}</h1>\n<p>{escape(_summary(report))}</p>\n"
        f"<h2>Teacher and student</h2>\n{table('policy', columns, rows)}\n"
        f'<p class="dim">{escape(_EXPLAINED)}</p>\n{_pareto(report)}\n{_latencies(report)}\n'
        f"<h2>How it was measured</h2>\n{facts_list(_facts(report))}\n"
        f"<h2>How to go on</h2>\n{command_list(report.commands)}"
    )
    return page(f"{report.teacher}, distilled", body)


def _summary(report: ParityReport) -> str:
    share = report.training["samples_over_teacher"]
    cost = "" if share is None else f", {share:.2g} times the samples of its teacher's training"
    simulated = report.rows[0].evaluation is not None
    missing = "" if simulated else " No episodes were run, so the score is not known."
    return (
        f"{report.teacher} on {report.task}, distilled by the method {report.method}: "
        f"{report.training['steps']} steps of {report.training['batch_size']} samples{cost}."
        f"{missing}"
    )


def _cells(report: ParityReport, row: Row, engines: Sequence[str]) -> list[str]:
    """HTML in the order of the columns."""
    change, diversity, scores = report.difference(row), row.diversity, row.scores
    score = minus = varied = "-"
    if scores is not None:
        low, high = scores["ci95"]
        score = f"<b>{scores['mean_score']:.3f}</b> <small>{low:.3f} to {high:.3f}</small>"
    if change is not None:
        low, high = change.ci95
        par = "" if report.on_par(row) else ", not on a par"
        minus = f"{change.mean_difference:+.3f} <small>{low:+.3f} to {high:+.3f}{par}</small>"
    if diversity is not None:
        lost = " less varied" if row.collapsed else ""
        varied = f"{diversity.ratio:.2f}{lost} <small>{diversity.energy_distance:.3f}</small>"
    jerk = "-" if row.jerk is None else f"{row.jerk:.3g}"
    times = [f"{row.medians[engine]:.3g} ms" for engine in engines]
    return [f"{row.num_calls:g}", score, minus, varied, jerk, *times]


def _pareto(report: ParityReport) -> str:
    """Score against latency on the engine that is fastest for the student."""
    if not report.best.medians or report.rows[0].scores is None:
        return ""
    engine = min(report.best.medians, key=lambda name: report.best.medians[name])
    points = []
    for row in report.rows:
        assert row.scores is not None
        low, high = row.scores["ci95"]
        label, score = f"{row.num_calls:g}", row.scores["mean_score"]
        points.append(ParetoPoint(row.role, label, score, (low, high), row.medians[engine]))
    bounds = [bound for point in points for bound in (point.score, *point.interval)]
    shown = (float(np.floor(min(bounds) * 10) / 10), float(np.ceil(max(bounds) * 10) / 10))
    if shown[0] == shown[1]:
        shown = (shown[0] - 0.1, shown[1] + 0.1)
    plot = pareto_plot(f"{report.task}: score", points, shown)
    return (
        f'<h2>Score against latency</h2><div class="grid top"><figure>{plot}<figcaption><span>'
        f"Points are labelled with their network calls per plan; {escape(engine)}, one thread."
        "</span></figcaption></figure></div>"
    )


def _latencies(report: ParityReport) -> str:
    """Distribution of the latencies on the fastest engine."""
    if not report.best.medians:
        return ""
    engine = min(report.best.medians, key=lambda name: report.best.medians[name])
    plot = latency_plot({row.name: row.latency[engine] for row in report.rows})
    return f"<h2>Latency distribution, {escape(engine)}</h2>{plot}"


def _facts(report: ParityReport) -> dict[str, str]:
    header, facts = report.header, {}
    evaluation = report.rows[0].evaluation
    if evaluation is not None:
        seeds = evaluation.seeds
        facts["Episodes"] = f"{len(seeds)} per row, seeds {seeds[0]} to {seeds[-1]}"
    diversity = report.best.diversity
    if diversity is not None:
        facts["States"] = (
            f"{diversity.num_states} of the demonstrations, {diversity.num_samples} plans at each"
        )
    versions = header["versions"]
    known = [name for name in versions if versions[name]]
    return {
        **facts,
        "Processor": f"{header['processor']}, {header['cores']} cores",
        "Date": header["date"],
        "Versions": ", ".join(f"{name} {versions[name]}" for name in known),
        "Commit": header["commit"] or "unknown",
        "Command": header["command"],
    }
