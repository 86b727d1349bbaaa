"""Whether what a dataset stores as seen after each action is what it stores as seen next."""

from __future__ import annotations

import numpy as np

from .columns import Column


def differs(observations: Column, following: Column, episode_ends: np.ndarray) -> bool:
    """Whether, within episodes, a row of `following` is not the next row of `observations`.

    Args:
        observations: What was seen before each action.
        following: What was seen after it, of the same shape.
        episode_ends: Exclusive ends, shape (E,); rows before them have no next row.
    """
    num_steps = observations.num_steps
    if following.num_steps != num_steps or following.shape != observations.shape:
        return True
    inside = np.ones(num_steps, bool)
    inside[episode_ends[(episode_ends > 0) & (episode_ends <= num_steps)] - 1] = False
    for rows in observations.blocks():
        stop = min(rows.stop, num_steps - 1)
        if stop <= rows.start:
            continue
        here = inside[rows.start : stop]
        later = observations.read(slice(rows.start + 1, stop + 1))[here]
        found = following.read(slice(rows.start, stop))[here]
        if not ((later == found) | ((later != later) & (found != found))).all():
            return True
    return False
