"""Draw scores against latencies as a small SVG that can stand inside an HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from .latency_plot import COLORS

WIDTH, HEIGHT = 480, 312  # [px]
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 52, 46  # [px], margins of the axes
LEGEND_HEIGHT = 19  # [px]
# Where labels stand, from their point [px]: those of neighbouring series keep apart.
PLACES = ((9, 5, "start"), (0, 20, "middle"), (0, -11, "middle"))


@dataclass(frozen=True)
class ParetoPoint:
    """One way of running a policy.

    Attributes:
        series: What is connected by a line, e.g. ``"Diffusion Policy, DDIM"``.
        label: What stands beside the point, e.g. the number of network calls.
        score: Its score.
        interval: Bounds of the score's 95 % interval.
        median_ms: Median latency of a control step that plans [ms].
    """

    series: str
    label: str
    score: float
    interval: tuple[float, float]
    median_ms: float

    def __post_init__(self) -> None:
        """Reject what has no place on the axes; NaN never passes."""
        if not (np.isfinite(self.score) and 0 < self.median_ms < float("inf")):
            raise ValueError(
                f"{self.series}: a point needs a finite score and a positive latency, got "
                f"{self.score} and {self.median_ms} ms"
            )


def pareto_plot(title: str, points: Sequence[ParetoPoint], shown: tuple[float, float]) -> str:
    """Return an ``<svg>``: score upwards, latency to the right on a logarithmic axis.

    Args:
        title: What was measured.
        points: At least one; points of one series are connected in the order of their latency.
        shown: Lowest and highest score of the axis.

    Raises:
        ValueError: If there is no point, or a score is not on the axis.
    """
    if not points:
        raise ValueError("a plot needs at least one point, got none")
    outside = [point.score for point in points if not shown[0] <= point.score <= shown[1]]
    if outside:
        raise ValueError(f"the score axis goes from {shown[0]} to {shown[1]}, got {outside[0]}")
    axes = _Axes.around([point.median_ms for point in points], shown)
    series = list(dict.fromkeys(point.series for point in points))
    parts = [f'<text class="label" x="{LEFT}" y="18" fill="currentColor">{escape(title)}</text>']
    parts.append(axes.draw())
    for index, name in enumerate(series):
        colour = COLORS[index % len(COLORS)]
        chosen = sorted((one for one in points if one.series == name), key=lambda p: p.median_ms)
        parts += [
            _line(chosen, axes, colour),
            *(_point(one, axes, colour, index) for one in chosen),
        ]
        parts.append(_legend(name, index, colour))
    height = HEIGHT + LEGEND_HEIGHT * len(series)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}: score against latency">{"".join(parts)}</svg>'
    )


@dataclass(frozen=True)
class _Axes:
    """Decimal logarithms of the shown latencies [ms], and the shown scores."""

    low: float
    high: float
    scores: tuple[float, float]

    @classmethod
    def around(cls, latencies: Sequence[float], scores: tuple[float, float]) -> _Axes:
        """Leave a quarter of a decade on the left and more on the right, where labels stand."""
        logs = np.log10(latencies)
        return cls(float(logs.min()) - 0.25, float(logs.max()) + 0.4, scores)

    def x(self, median_ms: float) -> float:
        share = (np.log10(median_ms) - self.low) / (self.high - self.low)
        return LEFT + float(share) * (WIDTH - LEFT - RIGHT)

    def y(self, score: float) -> float:
        low, high = self.scores
        share = (np.clip(score, low, high) - low) / (high - low)
        return HEIGHT - BOTTOM - float(share) * (HEIGHT - TOP - BOTTOM)

    def draw(self) -> str:
        """Grid, numbers and the name of the latency axis."""
        parts: list[str] = []
        bottom = HEIGHT - BOTTOM
        for exponent in range(int(np.floor(self.low)), int(np.ceil(self.high)) + 1):
            for factor in (1, 2, 5):
                value = factor * 10.0**exponent
                if self.low <= np.log10(value) <= self.high:
                    x, kind = self.x(value), "major" if factor == 1 else "minor"
                    parts.append(f'<path class="{kind}" d="M{x:.1f} {TOP}V{bottom}"/>')
                    parts.append(_text(x, bottom + 17, "middle", f"{value:g}"))
        step = _round_step(self.scores[1] - self.scores[0])
        for score in np.arange(self.scores[0], self.scores[1] + step / 2, step):
            y = self.y(score)
            parts.append(f'<path class="minor" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(_text(LEFT - 6, y + 4, "end", f"{score:g}"))
        parts.append(_text((WIDTH + LEFT) / 2, bottom + 36, "middle", "latency [ms]"))
        return "".join(parts)


def _round_step(width: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that divides an axis into at most six."""
    exponents = range(int(np.floor(np.log10(width))) - 1, int(np.ceil(np.log10(width))) + 1)
    steps = (factor * 10.0**exponent for exponent in exponents for factor in (1, 2, 5))
    return next(step for step in steps if width / step < 6.001)


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _line(points: Sequence[ParetoPoint], axes: _Axes, colour: str) -> str:
    places = " ".join(f"{axes.x(p.median_ms):.1f},{axes.y(p.score):.1f}" for p in points)
    return (
        f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.5" '
        'stroke-opacity="0.6"/>'
    )


def _point(point: ParetoPoint, axes: _Axes, colour: str, series: int) -> str:
    """A disc, its interval as a vertical line, and its label."""
    x, y = axes.x(point.median_ms), axes.y(point.score)
    dx, dy, anchor = PLACES[series % len(PLACES)]
    low, high = (axes.y(bound) for bound in point.interval)
    return (
        f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{colour}" stroke-opacity="0.5" '
        f'stroke-width="2"/><circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'
        f'<text class="tick" x="{x + dx:.1f}" y="{y + dy:.1f}" text-anchor="{anchor}">'
        f"{escape(point.label)}</text>"
    )


def _legend(name: str, index: int, colour: str) -> str:
    y = HEIGHT + LEGEND_HEIGHT * index + 6
    return (
        f'<circle cx="{LEFT + 6}" cy="{y - 4}" r="4.5" fill="{colour}"/>'
        f'<text class="tick" x="{LEFT + 18}" y="{y}">{escape(name)}</text>'
    )
