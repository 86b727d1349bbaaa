"""The quickest stop that acceleration and jerk limits allow, in closed form.

Every joint brakes for itself: jerk -J until the deceleration is reached, none, then +J until the
joint stands still (signs for a joint that is about to move forward). The stop is time-optimal, so
from any point of it the quickest stop is the rest of it: a guard may brake now or one cycle later
and come to rest in the same place.

Plain floats, joint by joint: on so few numbers they are several times faster than arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np

from .limits import PlainMotion, Vector


class Stop(NamedTuple):
    """A stop of one joint.

    Attributes:
        position: Where it begins.
        velocity: Velocity that it begins with.
        acceleration: Acceleration that it begins with.
        jerk: Signed jerk of the last phase, minus that of the first.
        first: Duration of the first phase, which takes the acceleration to the deceleration [s].
        hold: Duration of the phase of constant deceleration [s].
        last: Duration of the last phase [s].
    """

    position: float
    velocity: float
    acceleration: float
    jerk: float
    first: float
    hold: float
    last: float

    @property
    def duration(self) -> float:
        """Time until the joint stands still [s]."""
        return self.first + self.hold + self.last

    def end(self) -> float:
        """Where the joint comes to rest."""
        position, velocity, acceleration, jerk, first, hold, last = self
        position += first * (velocity + first * (acceleration / 2 + first * (-jerk / 6)))
        velocity += first * (acceleration + first * (-jerk / 2))
        acceleration += first * -jerk
        position += hold * (velocity + hold * (acceleration / 2))
        velocity += hold * acceleration
        return position + last * (velocity + last * (acceleration / 2 + last * (jerk / 6)))

    def after(self, time: float) -> tuple[float, float, float]:
        """Position, velocity and acceleration after `time` [s]; exactly at rest at the end."""
        position, velocity, acceleration, jerk, *durations = self
        left = time
        for rate, duration in zip((-jerk, 0.0, jerk), durations, strict=True):
            t = min(max(left, 0.0), duration)
            position += t * (velocity + t * (acceleration / 2 + t * (rate / 6)))
            velocity += t * (acceleration + t * (rate / 2))
            acceleration += t * rate
            left -= duration
        if self.duration <= time:
            return position, 0.0, 0.0
        return position, velocity, acceleration

    def extent(self) -> tuple[float, float]:
        """Smallest and largest position on the way."""
        position, velocity, acceleration, jerk, _, _, _ = self
        end = self.end()
        low, high = (position, end) if position <= end else (end, position)
        # A joint that still moves the other way turns where its velocity crosses zero, and it
        # does so in the first phase.
        direction = -1.0 if jerk < 0 else 1.0
        backward, forward_pull = -direction * velocity, direction * acceleration
        if backward > 0 and forward_pull > 0:
            size = abs(jerk)
            root = forward_pull - sqrt(max(forward_pull * forward_pull - 2 * size * backward, 0.0))
            time = root / size
            turn = position + time * (velocity + time * (acceleration / 2 - time * jerk / 6))
            low, high = min(low, turn), max(high, turn)
        return low, high

    def peak_speed(self) -> float:
        """Largest speed on the way: an acceleration in progress has to be undone."""
        velocity, acceleration = self.velocity, self.acceleration
        ramp = velocity + acceleration * abs(acceleration) / (2 * abs(self.jerk))
        return max(abs(velocity), abs(ramp))


def plan_stop(
    position: float, velocity: float, acceleration: float, deceleration: float, jerk: float
) -> Stop:
    """Plan the quickest stop of a joint.

    Args:
        position: Where it is.
        velocity: Its velocity.
        acceleration: Its acceleration, within the limit.
        deceleration: Limit of acceleration.
        jerk: Limit of jerk.
    """
    # Velocity that is left if only the acceleration is brought to zero; its sign tells which way
    # the joint has to be pushed.
    left = velocity + acceleration * abs(acceleration) / (2 * jerk)
    v, a, signed = (-velocity, -acceleration, -jerk) if left < 0 else (velocity, acceleration, jerk)
    reached = min(sqrt(max(jerk * v + a * a / 2, 0.0)), deceleration)
    first = max((a + reached) / jerk, 0.0)
    hold = 0.0
    if not reached < deceleration:
        hold = max((v + a * a / (2 * jerk) - reached * reached / jerk) / deceleration, 0.0)
    return Stop(position, velocity, acceleration, signed, first, hold, reached / jerk)


def plan_stops(
    motion: PlainMotion, deceleration: Sequence[float], jerk: Sequence[float]
) -> list[Stop]:
    """Plan the quickest stop of each joint."""
    return list(map(plan_stop, *motion, deceleration, jerk))


def sample(stops: Sequence[Stop], times: Vector) -> tuple[Vector, Vector]:
    """Positions and velocities of all joints, each of shape (K, D), after `times` of shape (K,)."""
    rows = [[stop.after(time) for stop in stops] for time in times.tolist()]
    found = np.array(rows)
    return found[..., 0], found[..., 1]
