"""Per-row random generators, so that a row's plans do not depend on the other rows."""

from __future__ import annotations

import numpy as np

from .program import ReverseProgram


class RowNoise:
    """One random generator per batch row."""

    def __init__(self) -> None:
        self._generators: list[np.random.Generator] = []

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None) -> None:
        """Seed the generators of `rows`; without `rows`, make one per seed."""
        generators = [np.random.Generator(np.random.SFC64(int(seed))) for seed in seeds]
        if rows is None:
            self._generators = generators
            return
        for row, generator in zip(rows, generators, strict=True):
            self._generators[row] = generator

    def draw(self, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal noise of shape (len(rows), *shape), float32."""
        noise = np.empty((len(rows), *shape), np.float32)
        for index, row in enumerate(rows):
            self._generators[row].standard_normal(dtype=np.float32, out=noise[index])
        return noise

    def draw_calls(
        self, rows: np.ndarray, program: ReverseProgram, shape: tuple[int, ...]
    ) -> np.ndarray | None:
        """Noise of every call of `program`, shape (calls, R, *shape); None if it adds none."""
        if program.noise_scale is None:
            return None
        return np.moveaxis(self.draw(rows, (program.num_calls, *shape)), 1, 0)
