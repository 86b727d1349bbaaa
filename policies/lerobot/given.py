"""What somebody has to say about a LeRobot checkpoint because its folder does not."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Given:
    """What a LeRobot folder does not hold.

    Attributes:
        dt: Control period [s]: 1 / fps of the data that the policy was trained on.
        names: One name per action dimension, with its unit; none are called ``"action 0"`` and so
            on.
        action_low: Smallest admissible action per dimension; none takes the smallest of the
            training data.
        action_high: Largest admissible action per dimension; none takes the largest of the
            training data.
    """

    dt: float | None = None
    names: tuple[str, ...] = ()
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Reject what is no period."""
        if self.dt is not None and not (self.dt > 0 and math.isfinite(self.dt)):
            raise ValueError(
                f"lerobot.dt must be a positive number of seconds, e.g. 0.1 for 10 frames a "
                f"second, got {self.dt}"
            )
