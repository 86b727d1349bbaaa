"""What policies keep for each batch row, so that a row's plans do not depend on the other rows."""

from __future__ import annotations

import numpy as np

from ...decoding import exported_runtime
from ...decoding.exported_runtime import check_reset

__all__ = ["RowActions", "RowNoise", "check_reset", "selection"]


class RowNoise(exported_runtime.RowNoise):
    """One random generator per batch row, the one of exported policies."""

    def draw(self, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal noise of shape (len(rows), *shape), float32."""
        noise = np.empty((len(rows), *shape), np.float32)
        self.fill(rows, noise)
        return noise


def selection(rows: np.ndarray, num_rows: int) -> np.ndarray | slice:
    """Index that picks `rows` out of `num_rows`: a slice, which copies nothing, where it can."""
    if len(rows) == num_rows and (num_rows == 1 or (rows == np.arange(num_rows)).all()):
        return slice(None)
    return rows


class RowActions:
    """The newest actions of each batch row, in physical units.

    Args:
        length: How many are kept.
        size: Action size D.
    """

    def __init__(self, length: int, size: int) -> None:
        self.length = length
        self._actions = np.zeros((0, length, size), np.float32)

    def reset(self, num_rows: int) -> None:
        """Make so many rows."""
        self._actions = np.zeros((num_rows, *self._actions.shape[1:]), np.float32)

    def begin(self, rows: np.ndarray, past: np.ndarray) -> None:
        """Take `past`, shape (R, P, D), as what came before; its first action was always there."""
        past = past[:, -self.length :]
        missing = self.length - past.shape[1]
        self._actions[rows] = np.concatenate([past[:, :1].repeat(missing, axis=1), past], axis=1)

    def append(self, rows: np.ndarray, actions: np.ndarray) -> None:
        """Add the next `actions`, shape (R, n, D)."""
        both = np.concatenate([self._actions[rows], actions], axis=1)
        self._actions[rows] = both[:, -self.length :]

    def newest(self, rows: np.ndarray, num: int) -> np.ndarray:
        """The last `num` actions, shape (R, num, D), oldest first."""
        return self._actions[rows, self.length - num :]
