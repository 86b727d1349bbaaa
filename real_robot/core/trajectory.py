"""Chunks of timestamped waypoints, and the smooth curve through them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from .limits import Floats, LimitArrays, Vector

# Position and velocity of all joints.
Reference = tuple[Floats, Floats]

# A waypoint this far outside the position limits, as a share of the joint's range, is a fault of
# the policy; nearer ones are an overshoot that the limiter clips.
OVERSHOOT = 0.1
# Largest limit on the age of an observation [s].
OLDEST = 10.0


@dataclass(frozen=True, eq=False)
class Chunk:
    """Waypoints from a policy, on the clock of the control loop.

    Attributes:
        sequence: Number of the chunk, rising.
        observed_at: Time of the observation that the chunk was computed from [s].
        times: When the robot should be at each waypoint [s], shape (H,).
        waypoints: Joint positions, shape (H, D).
    """

    sequence: int
    observed_at: float
    times: Vector
    waypoints: Vector


@dataclass(frozen=True)
class ChunkRules:
    """What a chunk has to satisfy to be executed.

    Attributes:
        max_ahead: How far in the future its first waypoint may be [s].
        max_duration: How long it may last [s].
        max_age: How old its observation may be [s].
    """

    max_ahead: float = 1.0
    max_duration: float = 30.0
    max_age: float = 0.5

    def __post_init__(self) -> None:
        """Reject rules that no chunk could satisfy."""
        for name in self.__dataclass_fields__:
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(
                    f"rules.{name} must be a positive time in s, got {getattr(self, name)}"
                )
        if self.max_age > OLDEST:
            raise ValueError(
                f"rules.max_age must be at most {OLDEST} s, got {self.max_age}: the robot would "
                "follow plans from what was seen that long ago"
            )


def chunk_problem(
    chunk: Chunk, now: float, limits: LimitArrays, rules: ChunkRules, ahead: float = 0.0
) -> str:
    """Why a chunk must not be executed, empty if it may be; NaN never passes.

    Args:
        chunk: The chunk.
        now: Time of this cycle [s].
        limits: Joint limits.
        rules: What a chunk has to satisfy.
        ahead: How much later than `now` its observation may be [s]: a cycle that is late sees
            measurements that are newer than its deadline.
    """
    times, waypoints = chunk.times, chunk.waypoints
    if times.ndim != 1 or len(times) == 0 or waypoints.shape != (len(times), len(limits.low)):
        return (
            f"shape: expected times (H,) and waypoints (H, {len(limits.low)}), got {times.shape} "
            f"and {waypoints.shape}"
        )
    if times.dtype.kind != "f" or waypoints.dtype.kind != "f":
        return f"type: expected floats, got {times.dtype} and {waypoints.dtype}"
    if not (np.isfinite(times).all() and np.isfinite(waypoints).all()):
        return "not finite: NaN or infinity in times or waypoints"
    if not (np.diff(times) > 0).all():
        return "time order: times do not rise"
    if not -ahead <= now - chunk.observed_at <= rules.max_age:
        return f"age: observed {now - chunk.observed_at:.3f} s ago, at most {rules.max_age} s"
    if not times[0] <= now + rules.max_ahead:
        return f"far future: starts in {times[0] - now:.3f} s, at most {rules.max_ahead} s"
    if not times[-1] - times[0] <= rules.max_duration:
        return f"duration: {times[-1] - times[0]:.3f} s, at most {rules.max_duration} s"
    if not times[-1] > now:
        return f"late: ended {now - times[-1]:.3f} s ago"
    slack = OVERSHOOT * (limits.high - limits.low)
    if not ((limits.low - slack <= waypoints) & (waypoints <= limits.high + slack)).all():
        return "jump: a waypoint is far outside the position limits"
    return ""


class Curve:
    """Cubic Hermite curve through waypoints, continuous in position and velocity.

    The slopes are those of the parabola through three neighbours, zero at the end: after the last
    waypoint the curve stays there.

    Args:
        times: Rising times [s], shape (H,).
        waypoints: Shape (H, D).
    """

    def __init__(self, times: Vector, waypoints: Vector) -> None:
        self._times: Floats = times.tolist()
        self._waypoints: list[Floats] = waypoints.tolist()
        slopes = np.zeros_like(waypoints)
        if len(times) > 1:
            gaps = np.diff(times)[:, None]
            secants = np.diff(waypoints, axis=0) / gaps
            slopes[0] = secants[0]
            slopes[1:-1] = (gaps[1:] * secants[:-1] + gaps[:-1] * secants[1:]) / (
                gaps[1:] + gaps[:-1]
            )
        self._slopes: list[Floats] = slopes.tolist()
        # The piece that was asked for last, and its polynomials.
        self._index, self._gap = -1, 0.0
        self._piece: list[tuple[float, float, float, float]] = []

    @property
    def end(self) -> float:
        """Time of the last waypoint [s]."""
        return self._times[-1]

    def at(self, time: float) -> Reference:
        """Position and velocity at `time`; the first or last waypoint, at rest, outside."""
        times = self._times
        index = bisect_right(times, time) - 1
        if index < 0 or index >= len(times) - 1:
            waypoint = self._waypoints[max(index, 0)]
            return list(waypoint), [0.0] * len(waypoint)
        if index != self._index:
            self._enter(index)
        gap, s = self._gap, (time - times[index]) / self._gap
        position, velocity = Floats(), Floats()
        for p, m, second, third in self._piece:
            position.append(p + s * (m + s * (second + s * third)))
            velocity.append((m + s * (2 * second + s * 3 * third)) / gap)
        return position, velocity

    def _enter(self, index: int) -> None:
        """Compute the polynomials between waypoint `index` and the next one."""
        self._index, self._gap = index, self._times[index + 1] - self._times[index]
        self._piece = []
        for p, q, slope, next_slope in zip(
            *self._waypoints[index : index + 2], *self._slopes[index : index + 2], strict=True
        ):
            m, n = self._gap * slope, self._gap * next_slope
            # p + s m + s2 (3 (q - p) - 2 m - n) + s3 (2 (p - q) + m + n)
            self._piece.append((p, m, 3 * (q - p) - 2 * m - n, 2 * (p - q) + m + n))
