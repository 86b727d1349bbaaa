"""What a dataset of one's own robot says of its actions, where no simulator says it."""

from __future__ import annotations

from collections.abc import Sequence

from ...decoding import ActionSpec
from .episodes import Episodes
from .source import stated_rate


def recorded_action_spec(episodes: Episodes) -> ActionSpec:
    """Names, bounds and period of recorded actions; the bounds are the smallest and largest.

    Raises:
        ValueError: If the dataset does not say its period, or something about it cannot be right,
            or an action never changes anything.
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
        names = [f"action {index}" for index in range(size)]
    low, high = episodes.actions.min(axis=0), episodes.actions.max(axis=0)
    if fixed := [index for index in range(size) if not low[index] < high[index]]:
        raise ValueError(
            f"{source}: {', '.join(names[index] for index in fixed)} is the same in every step, so "
            f"no policy can learn to move it; leave it out with {_without(episodes, fixed)}"
        )
    return ActionSpec(tuple(names), tuple(low.tolist()), tuple(high.tolist()), 1 / rate)


def _without(episodes: Episodes, fixed: Sequence[int]) -> str:
    """The setting that reads all actions but those of some indices."""
    columns = episodes.metadata.get("columns") or {}
    column = str(columns.get("action", "")).partition("[")[0] or "ACTION_COLUMN"
    kept = [index for index in range(episodes.actions.shape[1]) if index not in fixed]
    if not kept or "[" in str(columns.get("action", "")):
        return "task.keys"
    return f"task.keys, where action is '{column}[{','.join(map(str, kept))}]'"
