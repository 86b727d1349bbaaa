"""Draw the paths of many episodes over one scene of pillars, as an SVG for an HTML page."""

from __future__ import annotations

import numpy as np

from ...envs.pillars import GOAL, GOAL_RADIUS, PILLAR_RADIUS, PILLARS, PUCK_RADIUS
from .rollouts import DECISION_X, Rollouts

WIDTH, SCENE, STRIP = 480, 152, 50  # [px]
LEFT, TOP, SCALE = -0.75, 0.39, 192.0  # [m], [m], [px/m]
REACHED, TOUCHED = "#2563eb", "#dc2626"
_STRIP_SPEED = 0.8  # [m/s] at either end of the strip
_STRIP_LEFT, _STRIP_RIGHT = 70, 410  # [px]


def scene_plot(rollouts: Rollouts, label: str) -> str:
    """Return an ``<svg>`` of the paths and, below, of the velocities asked for at the dashed line.

    Args:
        rollouts: What to draw; episodes that reached the goal are blue, the others red.
        label: For readers who cannot see it.
    """
    paths = "".join(
        _path(path, reached) for path, reached in zip(rollouts.paths, rollouts.reached, strict=True)
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {SCENE + STRIP}" role="img" aria-label="{label}">'
        f"{_scenery()}{paths}{_strip(rollouts)}</svg>"
    )


def _x(metres: float) -> float:
    return (metres - LEFT) * SCALE


def _y(metres: float) -> float:
    return (TOP - metres) * SCALE


def _scenery() -> str:
    """Goal, pillars with the ring that the puck's centre must not enter, and the dashed line."""
    goal, reach = _disc(GOAL[0], GOAL_RADIUS, "goal"), PILLAR_RADIUS + PUCK_RADIUS
    pillars = "".join(_disc(x, reach, "ring") + _disc(x, PILLAR_RADIUS, "pillar") for x in PILLARS)
    line = f'<path class="decision" d="M{_x(DECISION_X):.1f} 4V{SCENE - 4}"/>'
    return goal + pillars + line


def _disc(x: float, radius: float, kind: str) -> str:
    return f'<circle class="{kind}" cx="{_x(x):.1f}" cy="{_y(0):.1f}" r="{radius * SCALE:.1f}"/>'


def _path(path: np.ndarray, reached: bool) -> str:
    """One line, with a cross where it ended in a pillar."""
    points = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in path)
    colour = REACHED if reached else TOUCHED
    line = (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.3" '
        'stroke-opacity="0.5"/>'
    )
    if reached:
        return line
    x, y = _x(path[-1, 0]), _y(path[-1, 1])
    cross = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
    return f'{line}<path d="{cross}" stroke="{colour}" stroke-width="2"/>'


def _strip(rollouts: Rollouts) -> str:
    """One mark per episode on an axis of sideways velocities."""
    middle = SCENE + 14
    marks = "".join(
        f'<path d="M{_strip_x(speed):.1f} {middle - 7}v14" stroke-width="2" stroke-opacity="0.55" '
        'stroke="currentColor"/>'
        for speed in rollouts.sideways
    )
    ticks = "".join(
        f'<text x="{_strip_x(speed):.1f}" y="{middle + 23}" text-anchor="middle" '
        f'class="tick">{text}</text>'
        for speed, text in ((-0.6, "-0.6"), (-0.3, "-0.3"), (0, "0"), (0.3, "+0.3"), (0.6, "+0.6"))
    )
    axis = f'<path class="minor" d="M{_STRIP_LEFT} {middle}H{_STRIP_RIGHT}"/>'
    units = f'<text x="{WIDTH - 2}" y="{middle + 23}" text-anchor="end" class="tick">m/s</text>'
    return axis + marks + ticks + units


def _strip_x(speed: float) -> float:
    share = (float(np.clip(speed, -_STRIP_SPEED, _STRIP_SPEED)) + _STRIP_SPEED) / 2 / _STRIP_SPEED
    return _STRIP_LEFT + share * (_STRIP_RIGHT - _STRIP_LEFT)
