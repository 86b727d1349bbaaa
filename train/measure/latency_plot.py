"""Draw latency distributions as a small SVG that can stand inside an HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

WIDTH, ROW_HEIGHT, TOP, BOTTOM, MARGIN = 720, 84, 8, 44, 14
NUM_BINS = 90
LABEL_HEIGHT = 34
COLORS = ("#3b82f6", "#ea580c", "#16a34a", "#a855f7", "#dc2626", "#0891b2")


def latency_plot(samples_ms: Mapping[str, np.ndarray]) -> str:
    """Return an ``<svg>`` with one histogram per entry over one logarithmic time axis.

    Args:
        samples_ms: Latencies [ms] per label, all positive.
    """
    decades = _decades(np.concatenate(list(samples_ms.values())))
    height = TOP + ROW_HEIGHT * len(samples_ms) + BOTTOM
    parts = [_axis(decades, height)]
    for index, (label, values) in enumerate(samples_ms.items()):
        baseline = TOP + ROW_HEIGHT * (index + 1)
        color = COLORS[index % len(COLORS)]
        parts.append(_histogram(label, values, decades, baseline, color))
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="Distribution of latencies in milliseconds">{"".join(parts)}</svg>'
    )


def _decades(values: np.ndarray) -> tuple[int, int]:
    """Return the powers of ten around `values`, at least one decade apart."""
    low, high = np.floor(np.log10(values.min())), np.ceil(np.log10(values.max()))
    return int(low), int(max(high, low + 1))


def _x(values_ms: np.ndarray | float, decades: tuple[int, int]) -> np.ndarray:
    """Place latencies on the axis [px]."""
    low, high = decades
    return MARGIN + (np.log10(values_ms) - low) / (high - low) * (WIDTH - 2 * MARGIN)


def _axis(decades: tuple[int, int], height: int) -> str:
    """Draw a line per decade, a fainter one at 2 and 5, and the labels below."""
    bottom = height - BOTTOM
    parts: list[str] = []
    for exponent in range(decades[0], decades[1] + 1):
        for factor in (1, 2, 5):
            value = factor * 10.0**exponent
            if value > 10.0 ** decades[1]:
                break
            x, kind = _x(value, decades), "major" if factor == 1 else "minor"
            parts.append(f'<path class="{kind}" d="M{x:.1f} {TOP}V{bottom}"/>')
            if factor == 1:
                anchor = {decades[0]: "start", decades[1]: "end"}.get(exponent, "middle")
                left = {"start": x - MARGIN + 2, "end": x + MARGIN - 2}.get(anchor, x)
                text = f'<text x="{left:.1f}" y="{bottom + 17}" text-anchor="{anchor}">{value:g}'
                parts.append(f"{text}</text>")
    parts.append(
        f'<text x="{WIDTH / 2}" y="{bottom + 37}" text-anchor="middle">latency [ms]</text>'
    )
    return "".join(parts)


def _histogram(
    label: str, values: np.ndarray, decades: tuple[int, int], baseline: int, color: str
) -> str:
    """Draw one filled histogram with its label and a mark at the median."""
    edges = np.linspace(MARGIN, WIDTH - MARGIN, NUM_BINS + 1)
    counts, _ = np.histogram(_x(values, decades), edges)
    tops = baseline - counts / counts.max() * (ROW_HEIGHT - LABEL_HEIGHT)
    steps = "".join(f"H{left:.1f}V{top:.1f}" for left, top in zip(edges, tops, strict=False))
    median = _x(float(np.median(values)), decades)
    return (
        f'<path fill="{color}" fill-opacity="0.8" d="M{edges[0]:.1f} {baseline}{steps}'
        f'H{edges[-1]:.1f}V{baseline}Z"/>'
        f'<path class="median" d="M{median:.1f} {baseline}v-{ROW_HEIGHT - LABEL_HEIGHT + 4}"/>'
        f'<text class="label" x="{MARGIN}" y="{baseline - ROW_HEIGHT + 22}" '
        f'fill="{color}">{escape(label)}</text>'
    )
