"""The quickest stop that acceleration and jerk limits allow, in closed form.

Every joint brakes for itself: jerk -J until the deceleration is reached, none, then +J until the
joint stands still (signs for a joint that is about to move forward). The stop is time-optimal, so
from any point of it the quickest stop is the rest of it: a guard may brake now or one cycle later
and come to rest in the same place.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .limits import Motion, Vector


class Brake(NamedTuple):
    """A stop of all joints.

    Attributes:
        start: Motion that the stop begins with.
        jerk: Signed jerk of the last phase, minus that of the first, shape (D,).
        durations: Duration of the three phases [s], shape (3, D).
    """

    start: Motion
    jerk: Vector
    durations: Vector

    @property
    def duration(self) -> float:
        """Time until the last joint stands still [s]."""
        return float(self.durations.sum(axis=0).max())

    def at(self, time: float | Vector) -> Motion:
        """Motion after `time` [s], a number or an array of shape (K, 1)."""
        position, velocity, acceleration = self.start
        left = time
        for sign, duration in zip((-1.0, 0.0, 1.0), self.durations, strict=True):
            t = np.minimum(np.maximum(left, 0.0), duration)
            jerk = sign * self.jerk
            position = position + t * (velocity + t * (acceleration / 2 + t * (jerk / 6)))
            velocity = velocity + t * (acceleration + t * (jerk / 2))
            acceleration = acceleration + t * jerk
            left = left - duration
        return Motion(position, velocity, acceleration)

    def step(self, dt: float) -> Motion:
        """Motion after one control period; a joint whose stop ends within it rests exactly."""
        motion = self.at(dt)
        done = self.durations.sum(axis=0) <= dt
        return Motion(
            motion.position,
            np.where(done, 0.0, motion.velocity),
            np.where(done, 0.0, motion.acceleration),
        )

    def extent(self) -> tuple[Vector, Vector]:
        """Smallest and largest position on the way, each of shape (D,)."""
        position, velocity, acceleration = self.start
        end = self.at(np.inf).position
        # A joint that still moves the other way turns where its velocity crosses zero, and it
        # does so in the first phase.
        direction = np.sign(self.jerk)
        backward = -direction * velocity
        forward_pull = direction * acceleration
        turns = (backward > 0) & (forward_pull > 0)
        root = forward_pull - np.sqrt(
            np.maximum(forward_pull**2 - 2 * np.abs(self.jerk) * backward, 0.0)
        )
        time = np.where(turns, root / np.where(turns, np.abs(self.jerk), 1.0), 0.0)
        turn = position + time * (velocity + time * (acceleration / 2 - time * self.jerk / 6))
        low = np.minimum(np.minimum(position, end), turn)
        return low, np.maximum(np.maximum(position, end), turn)

    def peak_speed(self) -> Vector:
        """Largest speed on the way, shape (D,): an acceleration in progress has to be undone."""
        _, velocity, acceleration = self.start
        ramp = velocity + acceleration * np.abs(acceleration) / (2 * np.abs(self.jerk))
        return np.maximum(np.abs(velocity), np.abs(ramp))


def brake(motion: Motion, acceleration: Vector, jerk: Vector) -> Brake:
    """Plan the quickest stop from `motion`.

    Args:
        motion: Where the stop begins; its acceleration is within the limit.
        acceleration: Limit per joint, shape (D,).
        jerk: Limit per joint, shape (D,).
    """
    # Velocity that is left if only the acceleration is brought to zero; its sign tells which way
    # the joint has to be pushed.
    left = motion.velocity + motion.acceleration * np.abs(motion.acceleration) / (2 * jerk)
    sign = np.where(left < 0, -1.0, 1.0)
    v, a = sign * motion.velocity, sign * motion.acceleration
    deceleration = np.minimum(np.sqrt(np.maximum(jerk * v + a * a / 2, 0.0)), acceleration)
    first = np.maximum((a + deceleration) / jerk, 0.0)
    hold = (v + a * a / (2 * jerk) - deceleration * deceleration / jerk) / acceleration
    hold = np.where(deceleration < acceleration, 0.0, np.maximum(hold, 0.0))
    return Brake(motion, sign * jerk, np.stack([first, hold, deceleration / jerk]))
