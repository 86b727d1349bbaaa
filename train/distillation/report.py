"""The parity report: what a student has gained over its teacher, and what it has lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np

from ...envs.rollout import Evaluation
from ...envs.statistics import Comparison, compare, summary
from ..measure.diversity import MIN_RATIO, Diversity

# A student is on a par with its teacher if it loses at most so much on average, and its interval
# excludes a loss of more than that, of a score from 0 to 1.
MAX_LOSS, MAX_LOSS_BOUND = 0.03, 0.07
# Of fewer pairs the interval is too narrow; of one it has no width at all.
MIN_EPISODES = 10


@dataclass(frozen=True, eq=False)
class Row:
    """One way of running teacher or student.

    Attributes:
        name: What it is.
        role: ``"teacher"``, ``"not distilled"`` or ``"student"``.
        num_calls: Network calls per plan.
        num_execute: Actions executed per plan.
        evaluation: Its episodes; None without a simulator.
        jerk: Root mean square of the executed actions' third derivative; None without episodes.
        latency: Durations of planning control steps by engine [ms], shape (n,) each.
        diversity: Its actions beside the teacher's at fixed states; None of the teacher.
        engines: What ran it, by engine that was asked for; missing ones are those asked for.
    """

    name: str
    role: str
    num_calls: float
    num_execute: int
    evaluation: Evaluation | None
    jerk: float | None
    latency: Mapping[str, np.ndarray]
    diversity: Diversity | None
    engines: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def medians(self) -> dict[str, float]:
        """Median latency by engine [ms]."""
        return {engine: float(np.median(times)) for engine, times in self.latency.items()}

    @cached_property
    def scores(self) -> dict[str, Any] | None:
        """Summary of its episodes, see `statistics.summary`."""
        return None if self.evaluation is None else summary(self.evaluation)

    @property
    def collapsed(self) -> bool:
        """Whether its actions are less varied than a student's may be."""
        return self.diversity is not None and self.diversity.collapsed


@dataclass(frozen=True, eq=False)
class ParityReport:
    """Teacher and student side by side.

    Attributes:
        header: Machine, versions, commit and command.
        task: Name of the task.
        teacher: Name of the teacher.
        method: How it was distilled.
        training: What that cost.
        rows: The teacher first.
        commands: How to go on: shell command and what it does.
    """

    header: Mapping[str, Any]
    task: str
    teacher: str
    method: str
    training: Mapping[str, Any]
    rows: Sequence[Row]
    commands: Mapping[str, str] = field(default_factory=dict)

    @property
    def students(self) -> list[Row]:
        """The student's rows."""
        return [row for row in self.rows if row.role == "student"]

    def difference(self, row: Row) -> Comparison | None:
        """A row's scores minus the teacher's, episode by episode."""
        teacher = self.rows[0].evaluation
        if row is self.rows[0] or row.evaluation is None or teacher is None:
            return None
        return compare(teacher, row.evaluation)

    def on_par(self, row: Row) -> bool | None:
        """Whether a row is as good as the teacher, as far as its episodes can tell."""
        change = self.difference(row)
        if change is None:
            return None
        enough = change.num_episodes >= MIN_EPISODES
        return enough and change.mean_difference >= -MAX_LOSS and change.ci95.low > -MAX_LOSS_BOUND

    @property
    def best(self) -> Row:
        """The student with the fewest calls that is on a par and as varied; else the best one."""
        by_calls = sorted(self.students, key=lambda row: row.num_calls)
        good = [row for row in by_calls if self.on_par(row) is not False and not row.collapsed]
        return (good or sorted(by_calls, key=self._score, reverse=True))[0]

    @property
    def sentence(self) -> str:
        """What was gained and lost."""
        return sentence(self, self.best)

    def to_json(self) -> dict[str, Any]:
        """Everything that was measured, without the single latencies."""
        return {
            **self.header,
            "sentence": self.sentence,
            "task": self.task,
            "teacher": self.teacher,
            "method": self.method,
            "training": dict(self.training),
            "rows": [self._row(row) for row in self.rows],
        }

    def _score(self, row: Row) -> float:
        return 0.0 if row.scores is None else float(row.scores["mean_score"])

    def _row(self, row: Row) -> dict[str, Any]:
        change, diversity = self.difference(row), row.diversity
        return {
            "name": row.name,
            "role": row.role,
            "num_calls": row.num_calls,
            "num_execute": row.num_execute,
            "scores": row.scores,
            "episode_scores": row.evaluation and [one.score for one in row.evaluation.episodes],
            "minus_teacher": change and {**asdict(change), "ci95": list(change.ci95)},
            "on_par": self.on_par(row),
            "jerk": _finite(row.jerk),
            "diversity_ratio": diversity and _finite(diversity.ratio),
            "energy_distance": diversity and _finite(diversity.energy_distance),
            "collapsed": row.collapsed,
            "latency": {
                engine: {
                    "engine": row.engines.get(engine, engine),
                    "median_ms": row.medians[engine],
                    "p99_ms": float(np.quantile(times, 0.99)),
                    "n": len(times),
                }
                for engine, times in row.latency.items()
            },
        }


def sentence(report: ParityReport, student: Row) -> str:
    """Say in one sentence what a student has gained and lost."""
    teacher, parts = report.rows[0], []
    faster = _faster(teacher, student)
    calls = f"{student.num_calls:g} network call{'s' * (student.num_calls != 1)}"
    parts.append(f"{calls} per plan instead of {teacher.num_calls:g}{faster}")
    change = report.difference(student)
    if change is None:
        parts.append("what that does to its success was not measured")
    else:
        assert teacher.scores is not None and student.scores is not None
        low, high = change.ci95
        parts.append(
            f"score {student.scores['mean_score']:.3f} instead of "
            f"{teacher.scores['mean_score']:.3f} (difference {change.mean_difference:+.3f}, 95 % "
            f"interval {low:+.3f} to {high:+.3f}): {_verdict(change, report.on_par(student))}"
        )
    if student.collapsed:
        assert student.diversity is not None
        ratio = student.diversity.ratio
        parts.append(
            f"its actions are only {ratio:.0%} as varied as its teacher's, below {MIN_RATIO:.0%}"
        )
    return "; ".join(parts) + "."


def _verdict(change: Comparison, on_par: bool | None) -> str:
    """What the episodes show."""
    if on_par:
        return "on a par"
    return "a loss" if change.ci95.high < 0 else "not shown to be on a par"


def _faster(teacher: Row, student: Row) -> str:
    """How much faster the student is on its fastest engine, and how fast."""
    if not student.medians:
        return ""
    engine = min(student.medians, key=lambda name: student.medians[name])
    own, before = student.medians[engine], teacher.medians[engine]
    ratio = before / own
    times = f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"
    return f", {times} times as fast ({own:.3g} ms instead of {before:.3g} ms, {engine})"


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
