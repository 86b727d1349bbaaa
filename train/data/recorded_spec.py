"""What a dataset of one's own robot says of its actions, where no simulator says it."""

from __future__ import annotations

import logging

import numpy as np

from ...decoding import ActionSpec
from .episodes import Episodes
from .source import stated_rate

_LOG = logging.getLogger(__name__)
HELD = 1e-6  # how far an action that never changes may move, of itself or of 1


def recorded_action_spec(episodes: Episodes) -> ActionSpec:
    """Names, bounds and period of recorded actions; the bounds are the smallest and largest.

    An action that never changes is bounded to where it was, with one warning.

    Raises:
        ValueError: If the dataset does not say its period, or something about it cannot be right.
    """
    facts = episodes.metadata
    source = facts.get("source", "the dataset")
    if episodes.faults:
        raise ValueError(
            f"{source}: {episodes.faults[0]}; a robot would move wrongly, so correct the dataset "
            "(`hotloop data inspect` tells everything that is wrong with it)"
        )
    rate = stated_rate(facts)
    if rate is None:
        raise ValueError(
            f"{source} does not say how much time lies between two steps, which a robot must know; "
            "convert it with `hotloop data convert … --to lerobot --fps RATE`"
        )
    size = episodes.actions.shape[1]
    names = facts.get("action_names")
    if not names or len(names) != size:
        features = facts.get("action_features") or range(size)
        names = [f"action {index}" for index in features]
    low, high = episodes.actions.min(axis=0), episodes.actions.max(axis=0)
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    still = low == high
    if still.any():
        fixed = [name for name, one in zip(names, still, strict=True) if one]
        _LOG.warning(
            "%s: %s never changes; a policy trained on it keeps it where it was. Leave it out with "
            "%s",
            source,
            ", ".join(fixed),
            _without(episodes, still),
        )
    # A robot's limits must have room, if hardly any.
    room = np.where(still, HELD * np.maximum(1, np.abs(low)), 0)
    return ActionSpec(
        tuple(names), tuple((low - room).tolist()), tuple((high + room).tolist()), 1 / rate
    )


def _without(episodes: Episodes, still: np.ndarray) -> str:
    """The setting that reads all actions but those that stand still, shape (D,)."""
    columns = episodes.metadata.get("columns") or {}
    chosen = str(columns.get("action", ""))
    if still.all() or "[" in chosen:
        return "task.keys"
    kept = ",".join(str(index) for index in np.flatnonzero(~still))
    return f"task.keys, where action is '{chosen or 'ACTION_COLUMN'}[{kept}]'"
