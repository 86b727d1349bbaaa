"""From one random pose to the next: for trying a robot out without a checkpoint."""

from __future__ import annotations

import numpy as np

from ..config import PolicyOptions, RobotConfig
from ..core.trajectory import Chunk
from .move import Move
from .protocol import PolicyKind, RobotPolicy, Snapshot


class ReachPolicy:
    """Moves from one random pose to the next along minimum-jerk curves.

    Args:
        robot: Its limits bound poses and speeds.
        share: Share of each joint's range, about its middle, that poses are drawn from.
        pause: Rest at each pose [s].
    """

    period = 0.1
    cameras: tuple[str, ...] = ()

    def __init__(self, robot: RobotConfig, share: float = 0.4, pause: float = 0.3) -> None:
        if not 0 < share <= 1 or not pause >= 0:
            raise ValueError(
                f"share must be in (0, 1] and pause 0 s or more, got {share} and {pause}"
            )
        bounds = robot.control.limits.arrays
        middle, half = (bounds.low + bounds.high) / 2, share * (bounds.high - bounds.low) / 2
        self._low, self._high = middle - half, middle + half
        self._velocity = 0.5 * bounds.velocity * robot.control.speed
        self._pause = pause
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Draw the poses from `seed`."""
        self._generator = np.random.default_rng(seed)
        self._move: Move | None = None

    def plan(self, snapshot: Snapshot) -> Chunk:
        """The next half second of the present reach."""
        move, now = self._move, snapshot.time
        if move is None or not move.begin <= now <= move.end + self._pause:
            # A reach goes on from where the last one ended, not from where the robot lags.
            start = snapshot.position if move is None else move.goal
            goal = self._generator.uniform(self._low, self._high)
            self._move = move = Move(start, goal, now, self._velocity)
        return move.chunk(snapshot)


def make_reach_policy(robot: RobotConfig, options: PolicyOptions) -> RobotPolicy:
    """Build a `ReachPolicy`; there is nothing to choose."""
    del options
    return ReachPolicy(robot)


REACH = PolicyKind(make_reach_policy, settings=())
