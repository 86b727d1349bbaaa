"""Scripted experts of the arm tasks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .task import Environment

_STEP = 0.05  # [m], what an action of 1 moves the hand by
_CLOSE_STEPS = 8  # control steps that the fingers take to close


class ReachExpert:
    """Moves the hand straight to ``observation.goal``."""

    def reset(self, frame: Mapping[str, np.ndarray], seed: int) -> None:
        """Begin an episode; there is nothing to remember."""

    def act(self, frame: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return half of the way to the goal, as far as one step goes."""
        way = frame["observation.goal"] - frame["observation.state"][:3]
        return np.clip(0.5 * way / _STEP, -1.0, 1.0)


class LiftExpert:
    """Goes above the cube, down, closes the fingers, and up."""

    def __init__(self) -> None:
        self._closing = 0

    def reset(self, frame: Mapping[str, np.ndarray], seed: int) -> None:
        """Begin an episode with open fingers."""
        self._closing = 0

    def act(self, frame: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the action for a frame of the task ``lift``, shape (7,)."""
        way = frame["observation.object"][:3] - frame["observation.robot0_eef_pos"]
        move, fingers = way.astype(np.float64), -1.0
        if self._closing or np.linalg.norm(way) < 0.012:
            self._closing += 1
            move, fingers = np.zeros(3), 1.0
            if self._closing > _CLOSE_STEPS:
                move[2] = 0.02
        elif np.linalg.norm(way[:2]) > 0.01:
            move[2] += 0.06  # from above, so that the fingers do not push the cube away
        return np.array([*np.clip(move / _STEP * 2, -1.0, 1.0), 0.0, 0.0, 0.0, fingers])


def make_reach_expert(env: Environment) -> ReachExpert:
    """Build the expert of ``pybullet-reach``."""
    del env
    return ReachExpert()


def make_lift_expert(env: Environment) -> LiftExpert:
    """Build the expert of ``lift``."""
    del env
    return LiftExpert()
