"""Episodes: the one type that every dataset reader returns and every writer takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

BLOCK_BYTES = 2**24


@dataclass(frozen=True, eq=False)
class Episodes:
    """Demonstrations laid end to end along time, in physical units.

    Large arrays are memory-mapped files (`numpy.memmap`): indexing reads what is indexed, so code
    that works block by block never needs the memory that all of it would take.

    Attributes:
        observations: Per key an array of shape (T, *shape), float32, or uint8 images of shape
            (T, height, width, channels).
        actions: Shape (T, D), float32.
        episode_ends: Exclusive end of each episode, shape (E,), strictly increasing, last is T.
        rewards: Shape (T,), where the source has them; ``rewards[t]`` is what action t earned.
        terminated: Whether an episode ended in a terminal state of the task, shape (E,), bool; time
            limits and recordings that just stop are not terminal. Default: none did.
        final_observations: What was seen after each episode's last action, per key of
            `observations` an array of shape (E, *shape); None where the source does not know.
        infos: Other arrays of the source with one row per step, e.g. simulator states.
        texts: Per name a text for each episode, e.g. the ``model_file`` of its simulator.
        metadata: Provenance, serialisable as JSON.
        faults: What cannot be right about the recording, such as gaps in its time.
        notes: What the reader left out, or did not find, and nobody asked it to.
    """

    observations: Mapping[str, np.ndarray]
    actions: np.ndarray
    episode_ends: np.ndarray
    rewards: np.ndarray | None = None
    terminated: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    final_observations: Mapping[str, np.ndarray] | None = None
    infos: Mapping[str, np.ndarray] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError if lengths disagree, ends do not increase, or a value is not finite."""
        if self.actions.ndim != 2 or len(self.actions) == 0:
            raise ValueError(
                f"'action' must have shape (T, D) with T > 0, got {self.actions.shape}"
            )
        _check_ends(self.episode_ends, len(self.actions))
        if self.terminated.size == 0:
            object.__setattr__(self, "terminated", np.zeros(self.num_episodes, bool))
        if self.terminated.shape != (self.num_episodes,) or self.terminated.dtype != bool:
            raise ValueError(
                f"'terminated' must have one boolean for each of {self.num_episodes} episodes, got "
                f"{self.terminated.dtype} of shape {self.terminated.shape}"
            )
        arrays = {"action": self.actions, **self.observations}
        if self.rewards is not None:
            arrays["reward"] = self.rewards
        check_lengths({key: len(array) for key, array in {**arrays, **self.infos}.items()})
        for key, array in arrays.items():
            _check_finite(key, array)
        if self.final_observations is not None:
            self._check_final_observations(self.final_observations)
        for name, texts in self.texts.items():
            if len(texts) != self.num_episodes:
                raise ValueError(
                    f"'texts' must have one {name!r} for each of {self.num_episodes} episodes, "
                    f"got {len(texts)}"
                )

    def _check_final_observations(self, final: Mapping[str, np.ndarray]) -> None:
        expected = {key: (self.num_episodes, *a.shape[1:]) for key, a in self.observations.items()}
        found = {key: array.shape for key, array in final.items()}
        if found != expected:
            raise ValueError(f"'final_observations' must have shapes {expected}, got {found}")
        for key, array in final.items():
            _check_finite(f"{key} after the last action", array)

    @property
    def num_episodes(self) -> int:
        """Number of episodes E."""
        return len(self.episode_ends)

    @property
    def num_steps(self) -> int:
        """Number of steps T of all episodes together."""
        return len(self.actions)

    @property
    def episode_starts(self) -> np.ndarray:
        """First step of each episode, shape (E,)."""
        return np.concatenate([[0], self.episode_ends[:-1]])

    @property
    def episode_slices(self) -> list[slice]:
        """The steps of each episode."""
        return list(map(slice, self.episode_starts.tolist(), self.episode_ends.tolist()))


def blocks(num_rows: int, row_bytes: int, multiple: int = 1) -> Iterator[slice]:
    """Yield row ranges of about 16 MiB that together cover `num_rows`, starting at multiples."""
    size = multiple * max(1, BLOCK_BYTES // max(1, multiple * row_bytes))
    for start in range(0, num_rows, size):
        yield slice(start, min(start + size, num_rows))


def check_lengths(num_steps: Mapping[str, int]) -> None:
    """Raise ValueError if a column has another number of steps than ``action``."""
    for key, length in num_steps.items():
        if length != num_steps["action"]:
            raise ValueError(f"{key!r} has {length} steps, but 'action' has {num_steps['action']}")


def _check_ends(ends: np.ndarray, num_steps: int) -> None:
    if ends.ndim != 1 or len(ends) == 0:
        raise ValueError(f"'episode_ends' must be a non-empty list, got shape {ends.shape}")
    lengths = np.diff(ends, prepend=0)
    if (lengths <= 0).any():
        index = int(np.argmax(lengths <= 0))
        raise ValueError(
            f"'episode_ends' must increase strictly, but entry {index} is {ends[index]} after "
            f"{ends[index - 1] if index else 0}"
        )
    if ends[-1] != num_steps:
        raise ValueError(f"'episode_ends' ends at {ends[-1]}, but 'action' has {num_steps} steps")


def _check_finite(key: str, array: np.ndarray) -> None:
    """Raise ValueError naming the first step that holds a NaN or an infinity."""
    if array.dtype.kind != "f":
        return
    num_bad, first = 0, -1
    for rows in blocks(len(array), array.itemsize * int(np.prod(array.shape[1:]))):
        block = array[rows]
        # A sum over all is finite unless a value is not (or the sum overflows): one fast pass.
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(block.sum(dtype=np.float64)):
                continue
        bad = ~np.isfinite(block).reshape(len(block), -1).all(axis=1)
        if bad.any():
            first = rows.start + int(np.argmax(bad)) if first < 0 else first
            num_bad += int(bad.sum())
    if num_bad:
        raise ValueError(
            f"{key!r} is NaN or infinite in {num_bad} of {len(array)} steps, first at step {first}"
        )
