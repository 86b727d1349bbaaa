"""One reference out of many chunks: the newest one, a cross-fade, or an ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from .limits import Floats, Vector
from .trajectory import Chunk, Curve, Reference

Blend = Literal["replace", "cross-fade", "ensemble"]


@dataclass(frozen=True)
class StitchConfig:
    """How chunks follow each other.

    Attributes:
        blend: ``"replace"`` takes the newest chunk from its first time on; ``"cross-fade"`` moves
            over to it smoothly; ``"ensemble"`` averages all chunks that cover a time, as ACT does.
        fade: Duration of the cross-fade [s].
        decay: Ensemble weights are exp(-decay * i) for chunk i, the oldest being 0.
        max_chunks: Chunks that are kept.
    """

    blend: Blend = "replace"
    fade: float = 0.1
    decay: float = 0.01
    max_chunks: int = 8

    def __post_init__(self) -> None:
        """Reject settings without meaning."""
        if self.blend not in ("replace", "cross-fade", "ensemble"):
            raise ValueError(f"blend must be replace, cross-fade or ensemble, got {self.blend!r}")
        if not 0 < self.fade < np.inf or self.max_chunks < 2:
            raise ValueError(
                f"fade must be a positive time in s and max_chunks at least 2, got {self.fade} and "
                f"{self.max_chunks}"
            )


class Segment(NamedTuple):
    """A chunk's curve and when it takes over [s]."""

    curve: Curve
    start: float


class Stitcher:
    """Buffer of chunks in absolute time; answers where the robot should be.

    A chunk takes over at its first waypoint, or at once if that has passed; until then the chunk
    before it stays in charge. It replaces every chunk that would take over later than itself.
    """

    def __init__(self, config: StitchConfig) -> None:
        self.config = config
        self._segments: list[Segment] = []

    def __len__(self) -> int:
        """Number of chunks in the buffer."""
        return len(self._segments)

    def clear(self) -> None:
        """Forget all chunks."""
        self._segments.clear()

    def add(self, chunk: Chunk, now: float, origin: Vector | None = None) -> None:
        """Insert a valid chunk.

        Args:
            chunk: Waypoints that passed `chunk_problem`.
            now: Time of the insertion [s].
            origin: Where the robot is, shape (D,); without a plan to follow until the first
                waypoint, the way there starts from it at once.
        """
        times, waypoints = chunk.times, chunk.waypoints
        if origin is not None and times[0] > now and not self.covers(now):
            times = np.concatenate([[now], times])
            waypoints = np.concatenate([origin[None], waypoints])
        start = max(float(times[0]), now)
        if self.config.blend != "ensemble":
            while self._segments and self._segments[-1].start >= start:
                self._segments.pop()
        self._segments.append(Segment(Curve(times, waypoints), start))
        while len(self._segments) > self.config.max_chunks:
            # The oldest goes, but not the one in charge while all others are still to come.
            del self._segments[1 if self._segments[1].start > now else 0]

    @property
    def end(self) -> float:
        """Time of the last waypoint [s], minus infinity without chunks."""
        return max((segment.curve.end for segment in self._segments), default=-np.inf)

    def covers(self, time: float) -> bool:
        """Whether any chunk has taken over by `time`."""
        return any(segment.start <= time for segment in self._segments)

    def at(self, time: float) -> Reference:
        """Position and velocity of the reference.

        Raises:
            LookupError: If no chunk has taken over by `time`.
        """
        active = [segment for segment in self._segments if segment.start <= time]
        if not active:
            raise LookupError(f"no chunk covers time {time}")
        if self.config.blend == "ensemble":
            return self._ensemble(active, time)
        newest = active[-1].curve.at(time)
        if self.config.blend == "replace" or len(active) == 1:
            return newest
        s = (time - active[-1].start) / self.config.fade
        if s >= 1:
            return newest
        previous = active[-2].curve.at(time)
        weight, rate = s * s * (3 - 2 * s), 6 * s * (1 - s) / self.config.fade
        left, position, velocity = 1 - weight, Floats(), Floats()
        for p, v, x, u in zip(*previous, *newest, strict=True):
            position.append(left * p + weight * x)
            velocity.append(left * v + weight * u + rate * (x - p))
        return position, velocity

    def _ensemble(self, active: list[Segment], time: float) -> Reference:
        covering = [segment for segment in active if segment.curve.end >= time] or active[-1:]
        weights = np.exp(-self.config.decay * np.arange(len(covering)))
        weights /= weights.sum()
        values = np.array([segment.curve.at(time) for segment in covering])  # (K, 2, D)
        position, velocity = np.tensordot(weights, values, axes=1).tolist()
        return position, velocity
