"""Episodes in memory: the one type that every dataset reader returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Episodes:
    """Demonstrations laid end to end along time, in physical units.

    Attributes:
        observations: Per key an array of shape (T, *shape), float32.
        actions: Shape (T, D), float32.
        episode_ends: Exclusive end of each episode, shape (E,), strictly increasing, last is T.
        rewards: Shape (T,), where the source has them.
        metadata: Provenance, serialisable as JSON.
    """

    observations: Mapping[str, np.ndarray]
    actions: np.ndarray
    episode_ends: np.ndarray
    rewards: np.ndarray | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError if lengths disagree, ends do not increase, or a value is not finite."""
        if self.actions.ndim != 2 or len(self.actions) == 0:
            raise ValueError(
                f"'action' must have shape (T, D) with T > 0, got {self.actions.shape}"
            )
        self._check_ends()
        arrays = {"action": self.actions, **self.observations}
        if self.rewards is not None:
            arrays["reward"] = self.rewards
        for key, array in arrays.items():
            if len(array) != len(self.actions):
                raise ValueError(
                    f"{key!r} has {len(array)} steps, but 'action' has {len(self.actions)}"
                )
            finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
            if not finite.all():
                raise ValueError(
                    f"{key!r} is NaN or infinite in {(~finite).sum()} of {len(array)} steps, "
                    f"first at step {int(np.argmin(finite))}"
                )

    def _check_ends(self) -> None:
        ends = self.episode_ends
        if ends.ndim != 1 or len(ends) == 0:
            raise ValueError(f"'episode_ends' must be a non-empty list, got shape {ends.shape}")
        lengths = np.diff(ends, prepend=0)
        if (lengths <= 0).any():
            index = int(np.argmax(lengths <= 0))
            raise ValueError(
                f"'episode_ends' must increase strictly, but entry {index} is {ends[index]} after "
                f"{ends[index - 1] if index else 0}"
            )
        if ends[-1] != len(self.actions):
            raise ValueError(
                f"'episode_ends' ends at {ends[-1]}, but 'action' has {len(self.actions)} steps"
            )

    @property
    def num_episodes(self) -> int:
        """Number of episodes E."""
        return len(self.episode_ends)

    @property
    def episode_starts(self) -> np.ndarray:
        """First step of each episode, shape (E,)."""
        return np.concatenate([[0], self.episode_ends[:-1]])
