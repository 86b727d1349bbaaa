"""Recorded actions held against what a model is told of rotations among them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from ...policies.diffusion.rotations import ANGLES, check_angles, find_leaps
from ..data.episodes import Episodes

_LOG = logging.getLogger(__name__)


def check_turns(episodes: Episodes, rotations: Sequence[int]) -> None:
    """Raise ValueError for rotations that are none, and tell of those that would learn badly.

    Args:
        episodes: Demonstrations.
        rotations: First index of each axis-angle triple among their actions.
    """
    check_angles(episodes.actions, rotations)
    _warn_of_leaps(episodes, rotations)
    _warn_of_small_turns(episodes.actions, rotations)


def _warn_of_leaps(episodes: Episodes, rotations: Sequence[int]) -> None:
    """Tell of axis-angle actions that the network is to learn as they are, leaps and all."""
    leaps = find_leaps(episodes.actions, episodes.episode_ends)
    for first, num in leaps.items():
        if first not in rotations:
            _LOG.warning(
                "actions %d to %d leap to their opposite %d times, as axis-angle vectors do at a "
                "turn by pi; policy.model.rotations=%s shows the network rotations without leaps",
                first,
                first + 2,
                num,
                sorted([*rotations, first]),
            )


def _warn_of_small_turns(actions: np.ndarray, rotations: Sequence[int]) -> None:
    """Tell of rotations that leap nowhere and are not scaled: changes rather than where a hand is.

    Six numbers that hardly differ from those of no rotation hardly count in the loss.
    """
    for first in rotations:
        angle = float(np.linalg.norm(actions[:, first : first + ANGLES], axis=1).max())
        if angle < np.pi / 2:
            _LOG.warning(
                "policy.model.rotations: actions %d to %d turn by %.2g rad at most, as deltas do, "
                "which are learnt better as they are; leave %d out",
                first,
                first + ANGLES - 1,
                angle,
                first,
            )
