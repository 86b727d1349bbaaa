"""The scripted expert of the PyBullet arm."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .task import Environment

_STEP = 0.05  # [m], what an action of 1 moves the hand by


class ReachExpert:
    """Moves the hand straight to ``observation.goal``."""

    def reset(self, frame: Mapping[str, np.ndarray], seed: int) -> None:
        """Begin an episode; there is nothing to remember."""

    def act(self, frame: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return half of the way to the goal, as far as one step goes."""
        way = frame["observation.goal"] - frame["observation.state"][:3]
        return np.clip(0.5 * way / _STEP, -1.0, 1.0)


def make_reach_expert(env: Environment) -> ReachExpert:
    """Build the expert of ``pybullet-reach``."""
    del env
    return ReachExpert()
