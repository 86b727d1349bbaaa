"""What a dataset of one's own robot says of its actions, where no simulator says it."""

from __future__ import annotations

from ...decoding import ActionSpec
from .episodes import Episodes


def recorded_action_spec(episodes: Episodes) -> ActionSpec:
    """Names, bounds and period of recorded actions; the bounds are the smallest and largest.

    Raises:
        ValueError: If the dataset does not say its period, or an action never changes anything.
    """
    facts = episodes.metadata
    source = facts.get("source", "the dataset")
    fps = float(facts.get("fps") or 0)
    dt = 1 / fps if fps > 0 else float(facts.get("dt") or 0)
    if not dt > 0:
        raise ValueError(
            f"{source} does not say how much time lies between two steps, which a robot must know; "
            "convert it with `hotloop data convert … --to lerobot --fps RATE`"
        )
    size = episodes.actions.shape[1]
    names = facts.get("action_names")
    if not names or len(names) != size:
        names = [f"action {index}" for index in range(size)]
    low, high = episodes.actions.min(axis=0), episodes.actions.max(axis=0)
    if fixed := [name for name, a, b in zip(names, low, high, strict=True) if not a < b]:
        raise ValueError(
            f"{source}: {', '.join(fixed)} is the same in every step, so no policy can learn to "
            "move it; leave it out with task.keys"
        )
    return ActionSpec(tuple(names), tuple(low.tolist()), tuple(high.tolist()), dt)
