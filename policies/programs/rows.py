"""What policies keep for each batch row, so that a row's plans do not depend on the other rows."""

from __future__ import annotations

import numpy as np

_POOL = 4096  # numbers drawn at a time; a call to a generator costs more than a hundred of them


def check_reset(rows: np.ndarray, num_rows: int) -> None:
    """Raise ValueError unless `reset` has made all of `rows`."""
    if len(rows) and not 0 <= rows.min() <= rows.max() < num_rows:
        raise ValueError(
            f"reset has made {num_rows} rows, and a plan is asked for rows {rows.tolist()}; call "
            "reset(seeds) first, with one seed per row"
        )


class RowNoise:
    """One random generator per batch row, whose numbers are drawn in advance."""

    def __init__(self) -> None:
        self._generators: list[np.random.Generator] = []
        self._pools: list[np.ndarray] = []
        self._cursors: list[int] = []

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None) -> None:
        """Seed the generators of `rows`; without `rows`, make one per seed."""
        if rows is None:
            num = len(seeds)
            self._generators = [np.random.Generator(np.random.SFC64(0))] * num
            self._pools = [np.empty(0, np.float32)] * num
            self._cursors = [0] * num
            rows = np.arange(num)
        for row, seed in zip(rows.tolist(), seeds.tolist(), strict=True):
            self._generators[row] = np.random.Generator(np.random.SFC64(seed))
            self._pools[row], self._cursors[row] = np.empty(0, np.float32), 0

    def fill(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Write standard normal noise to `out`, shape (len(rows), ...), float32."""
        size, cursors = out[0].size, self._cursors
        for row, noise in zip(rows.tolist(), out, strict=True):
            if row >= len(cursors):
                check_reset(rows, len(cursors))
            begin = cursors[row]
            end = cursors[row] = begin + size
            if end > len(self._pools[row]):
                begin, end = self._refill(row, size)
            noise[...] = self._pools[row][begin:end].reshape(noise.shape)

    def draw(self, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal noise of shape (len(rows), *shape), float32."""
        noise = np.empty((len(rows), *shape), np.float32)
        self.fill(rows, noise)
        return noise

    def _refill(self, row: int, size: int) -> tuple[int, int]:
        """Renew a row's pool, what is left of the old one is dropped; return where to take from."""
        num = max(_POOL, size)
        self._pools[row] = self._generators[row].standard_normal(num, dtype=np.float32)
        self._cursors[row] = size
        return 0, size


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
