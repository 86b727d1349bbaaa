"""What the robot was asked to do: texts by task index, and the same as a column of bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...decoding.instruction import (
    INSTRUCTION_BYTES,
    INSTRUCTION_KEY,
    decode_instruction,
    encode_instruction,
)
from .episodes import Episodes

TASK_COLUMN = "task"  # a column that every file with tasks has, whatever its format
UNKNOWN_TASK = "unknown"
MAX_TASKS = 1_000_000


def known_texts(tasks: Sequence[str]) -> list[str]:
    """Texts that say something."""
    return [text for text in tasks if text.strip() and text != UNKNOWN_TASK]


def texts_by_index(pairs: Mapping[int, str]) -> list[str]:
    """Texts at the position of their task index; positions that no task has are empty.

    Raises:
        ValueError: If an index is negative or absurdly large.
    """
    if not pairs:
        return []
    if min(pairs) < 0 or max(pairs) >= MAX_TASKS:
        raise ValueError(f"task indices must be 0 to {MAX_TASKS - 1}, found {sorted(pairs)[:3]}")
    return [pairs.get(index, "") for index in range(max(pairs) + 1)]


class TaskTexts:
    """The text of each step's task as bytes, shape (T, INSTRUCTION_BYTES), uint8.

    Args:
        texts: Texts by task index.
        index: Column of task indices; None for the only text at every step.
        num_steps: Number of steps T, where there is no index.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, texts: Sequence[str], index: Any, num_steps: int) -> None:
        self._texts, self._index = texts, index
        self.shape = (num_steps if index is None else index.shape[0], INSTRUCTION_BYTES)

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Encode the texts of some steps."""
        start, stop, _ = rows.indices(self.shape[0])
        if self._index is None:
            (text,) = known_texts(self._texts)
            return np.tile(encode_instruction(text), (stop - start, 1))
        index = np.asarray(self._index[start:stop]).reshape(-1)
        values, inverse = np.unique(index, return_inverse=True)
        table = [self._encode(value) for value in values.tolist()]
        return np.stack(table)[inverse] if table else np.empty((0, INSTRUCTION_BYTES), np.uint8)

    def _encode(self, index: float) -> np.ndarray:
        if not 0 <= index < len(self._texts) or not self._texts[int(index)].strip():
            raise ValueError(f"a step has task index {index}, which no task has")
        return encode_instruction(self._texts[int(index)])


def as_tasks(episodes: Episodes) -> Episodes:
    """The same episodes with ``observation.instruction`` as tasks, for formats without texts."""
    column = episodes.observations.get(INSTRUCTION_KEY)
    if column is None:
        return episodes
    rows, index = np.unique(np.asarray(column), axis=0, return_inverse=True)
    texts = [decode_instruction(row) if row.any() else "" for row in rows]
    named = sorted({text or UNKNOWN_TASK for text in texts})
    positions = np.array([named.index(text or UNKNOWN_TASK) for text in texts])
    infos = {name: array for name, array in episodes.infos.items() if name != "task_index"}
    if len(named) > 1:
        infos["task_index"] = positions[index.reshape(-1)].astype(np.int64)

    def without(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {key: array for key, array in arrays.items() if key != INSTRUCTION_KEY}

    final = episodes.final_observations
    return replace(
        episodes,
        observations=without(episodes.observations),
        final_observations=None if final is None else without(final) or None,
        infos=infos,
        metadata={**episodes.metadata, "tasks": named},
    )
