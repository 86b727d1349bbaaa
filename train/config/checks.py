"""Ranges of settings, checked where they are defined, so that a wrong one is named at once."""

from __future__ import annotations

import math
from collections.abc import Mapping

# Generators take 64 bits; what counts on from a seed needs room for its episodes.
_SEED_BITS = 62


def at_least(minimum: float, **settings: float) -> None:
    """Raise ValueError naming the first setting below `minimum`; ``__`` is written as a dot."""
    for name, value in _dotted(settings).items():
        if not minimum <= value < math.inf:
            raise ValueError(f"{name} must be at least {minimum:g}, got {value:g}")


def seeds(**settings: int) -> None:
    """Raise ValueError naming the first setting that no generator can be seeded with."""
    at_least(0, **settings)
    for name, value in _dotted(settings).items():
        if value >= 1 << _SEED_BITS:
            raise ValueError(f"{name} must be below 2^{_SEED_BITS}, got {value:g}")


def above_zero(**settings: float) -> None:
    """Raise ValueError naming the first setting that is not positive and finite."""
    for name, value in _dotted(settings).items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be more than 0, got {value:g}")


def shares(**settings: float) -> None:
    """Raise ValueError naming the first setting outside of 0 to 1."""
    for name, value in _dotted(settings).items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value:g}")


def _dotted(settings: Mapping[str, float]) -> dict[str, float]:
    return {name.replace("__", "."): value for name, value in settings.items()}
