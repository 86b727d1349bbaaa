"""Draw scores against latencies as a small SVG that can stand inside an HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from .latency_plot import COLORS

WIDTH, HEIGHT = 480, 300  # [px]
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 40, 46  # [px], margins of the axes
LEGEND_HEIGHT = 19  # [px]


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


def pareto_plot(title: str, points: Sequence[ParetoPoint], best: float) -> str:
    """Return an ``<svg>``: score upwards, latency to the right on a logarithmic axis.

    Args:
        title: What was measured.
        points: At least one; points of one series are connected in the order of their latency.
        best: Top of the score axis, which begins at 0.

    Raises:
        ValueError: If there is no point.
    """
    if not points:
        raise ValueError("a plot needs at least one point, got none")
    axes = _Axes.around([point.median_ms for point in points], best)
    series = list(dict.fromkeys(point.series for point in points))
    parts = [f'<text class="label" x="{LEFT}" y="18" fill="currentColor">{escape(title)}</text>']
    parts.append(axes.draw())
    for index, name in enumerate(series):
        colour = COLORS[index % len(COLORS)]
        chosen = sorted((one for one in points if one.series == name), key=lambda p: p.median_ms)
        parts += [_line(chosen, axes, colour), *(_point(one, axes, colour) for one in chosen)]
        parts.append(_legend(name, index, colour))
    height = HEIGHT + LEGEND_HEIGHT * len(series)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}: score against latency">{"".join(parts)}</svg>'
    )


@dataclass(frozen=True)
class _Axes:
    """Decimal logarithms of the shown latencies [ms], and the top of the score axis."""

    low: float
    high: float
    best: float

    @classmethod
    def around(cls, latencies: Sequence[float], best: float) -> _Axes:
        """Leave a fifth of a decade on the left and more on the right, where labels stand."""
        logs = np.log10(latencies)
        return cls(float(logs.min()) - 0.2, float(logs.max()) + 0.3, best)

    def x(self, median_ms: float) -> float:
        share = (np.log10(median_ms) - self.low) / (self.high - self.low)
        return LEFT + float(share) * (WIDTH - LEFT - RIGHT)

    def y(self, score: float) -> float:
        return HEIGHT - BOTTOM - score / self.best * (HEIGHT - TOP - BOTTOM)

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
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            y = self.y(share * self.best)
            parts.append(f'<path class="minor" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(_text(LEFT - 6, y + 4, "end", f"{share * self.best:g}"))
        parts.append(_text((WIDTH + LEFT) / 2, bottom + 36, "middle", "latency [ms]"))
        return "".join(parts)


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _line(points: Sequence[ParetoPoint], axes: _Axes, colour: str) -> str:
    places = " ".join(f"{axes.x(p.median_ms):.1f},{axes.y(p.score):.1f}" for p in points)
    return (
        f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.5" '
        'stroke-opacity="0.6"/>'
    )


def _point(point: ParetoPoint, axes: _Axes, colour: str) -> str:
    """A disc, its interval as a vertical line, and its label."""
    x, y = axes.x(point.median_ms), axes.y(point.score)
    low, high = (axes.y(bound) for bound in point.interval)
    return (
        f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{colour}" stroke-opacity="0.5" '
        f'stroke-width="2"/><circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'
        f'<text class="tick" x="{x + 8:.1f}" y="{y + 13:.1f}">{escape(point.label)}</text>'
    )


def _legend(name: str, index: int, colour: str) -> str:
    y = HEIGHT + LEGEND_HEIGHT * index + 6
    return (
        f'<circle cx="{LEFT + 6}" cy="{y - 4}" r="4.5" fill="{colour}"/>'
        f'<text class="tick" x="{LEFT + 18}" y="{y}">{escape(name)}</text>'
    )
