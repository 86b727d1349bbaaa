"""What an arm that is moved by hand says about its joints; arithmetic alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..core.limits import Vector
from ..drivers.servo_options import COUNTS, TICKS

SMALLEST_MOVE = 5 * COUNTS / 360  # encoder counts that count as moved: 5 degrees
SMALLEST_RANGE = 10 * COUNTS / 360
# An arm in somebody's hands is never quite still.
LARGEST_TREMOR = 1 * COUNTS / 360


class Range(NamedTuple):
    """Where joints have been, in encoder counts, each of shape (D,)."""

    low: Vector
    high: Vector


def shortest_way(before: Vector, after: Vector) -> Vector:
    """How far each joint went, in encoder counts of either sign, less than half a turn."""
    half = COUNTS / 2
    return (after - before + half) % COUNTS - half


class RangeRecorder:
    """Follows joints through their range, across the place where an encoder begins again at 0.

    Args:
        ticks: Encoder counts at the start, shape (D,).
    """

    def __init__(self, ticks: Vector) -> None:
        self._last: Vector = np.array(ticks)
        self._position: Vector = np.array(ticks)
        self.range = Range(np.array(ticks), np.array(ticks))

    def add(self, ticks: Vector) -> None:
        """Take a measurement; between two of them a joint turns by less than half a turn."""
        self._position += shortest_way(self._last, ticks)
        self._last = np.array(ticks)
        np.minimum(self.range.low, self._position, out=self.range.low)
        np.maximum(self.range.high, self._position, out=self.range.high)

    def complaint(self, joints: Sequence[str], margin: float, zero: Vector | None = None) -> str:
        """What keeps the range from being used, empty if nothing.

        Args:
            joints: What to call each joint.
            margin: How far limits will stay away from both ends [rad].
            zero: Encoder counts of a pose that the arm has been in, so that the range holds it.
        """
        low, high = self.range
        smallest = SMALLEST_RANGE + 2 * margin * TICKS
        still = [name for name, size in zip(joints, high - low, strict=True) if size < smallest]
        if still:
            return (
                f"{', '.join(still)} moved by less than {360 * smallest / COUNTS:.0f} degrees; "
                "move each joint from one end of its range to the other"
            )
        turned = [name for name, size in zip(joints, high - low, strict=True) if size >= COUNTS]
        if turned:
            return f"{', '.join(turned)} went round by a whole turn, which an encoder cannot count"
        if zero is not None:
            there = beside(zero, self.range)
            missed = (there < low - SMALLEST_MOVE) | (there > high + SMALLEST_MOVE)
            short = ", ".join(name for name, out in zip(joints, missed, strict=True) if out)
            if short:
                return f"{short} did not come to where it was at 0 rad: that is not all its range"
        return ""


def recentring(seen: Range) -> Vector:
    """By how many counts each encoder would have to read less, shape (D,).

    0 where a joint stays between 0 and the last count. Where it crosses the seam, at which the
    encoder begins again at 0, so many that the middle of its range becomes that of the encoder.
    """
    crossing = (seen.low < 0) | (seen.high > COUNTS - 1)
    middle = np.rint((seen.low + seen.high) / 2)
    return np.where(crossing, middle - COUNTS / 2, 0.0)


def beside(ticks: Vector, seen: Range) -> Vector:
    """Encoder counts of a pose, with whole turns added so that they lie next to the range."""
    middle = (seen.low + seen.high) / 2
    return middle + shortest_way(middle, ticks)


def steady(readings: Sequence[Vector]) -> Vector | None:
    """The median of some readings, shape (D,), None if a joint moved meanwhile."""
    rows: Vector = np.stack(readings)
    moves = shortest_way(rows[:1], rows)
    if np.ptp(moves, axis=0).max() > LARGEST_TREMOR:
        return None
    return np.rint(rows[0] + np.median(moves, axis=0)) % COUNTS


def direction_of(joint: int, before: Vector, after: Vector, names: Sequence[str]) -> int:
    """Whether the servo of `joint` counts up, 1, or down, -1, in what was its positive direction.

    Args:
        joint: Which joint was to be moved.
        before: Encoder counts of all joints before, shape (D,).
        after: Encoder counts afterwards, shape (D,).
        names: Name of each joint together with its servo, for the message.

    Raises:
        ValueError: If it was not this joint that moved.
    """
    moves = shortest_way(before, after)
    largest = int(np.argmax(np.abs(moves)))
    if abs(moves[largest]) < SMALLEST_MOVE:
        degrees = 360 / COUNTS
        raise ValueError(
            f"{names[joint]} moved by {degrees * abs(moves[joint]):.1f} degrees, expected at least "
            f"{degrees * SMALLEST_MOVE:.0f}; move it further"
        )
    if largest != joint:
        raise ValueError(
            f"{names[largest]} moved, expected {names[joint]}; move that one alone, or correct the "
            "order of options.ids if the servos are mounted in another order"
        )
    return 1 if moves[joint] > 0 else -1


def proposed_limits(
    seen: Range, zero: Vector, direction: Vector, margin: float
) -> tuple[Vector, Vector]:
    """Limits that stay `margin` [rad] away from both ends of each joint's range.

    Returns:
        Lowest and highest position [rad], each of shape (D,), rounded inwards to 1 mrad.
    """
    ends = direction * (np.stack(seen) - zero) / TICKS
    low, high = ends.min(axis=0) + margin, ends.max(axis=0) - margin
    # Half a count more, so that what the servo is told stays inside of what was seen.
    half = 0.5 / TICKS
    return np.ceil(1e3 * (low + half)) / 1e3, np.floor(1e3 * (high - half)) / 1e3
