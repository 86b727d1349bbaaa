"""What a streaming policy keeps for each row between two plans."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch

from ...decoding.rolling import Ladder
from ..programs.rows import RowActions, RowNoise, check_reset, selection
from .model import DiffusionModel

NOT_STARTED = -1


class Buffers:
    """Rolling buffers of all rows: normalised windows, executed actions, and when they go on.

    Args:
        model: Trained model.
        ladder: Levels of the buffers.
        num_remembered: Executed actions that are kept, 0 if nobody needs them.

    Attributes:
        noise: Source of each row's noise.
        executed: The newest executed actions of each row, physical.
    """

    def __init__(self, model: DiffusionModel, ladder: Ladder, num_remembered: int) -> None:
        self._normalizer = deepcopy(model.action_normalizer).cpu()
        self._signal = model.schedule.signals.astype(np.float32)
        self._sigma = model.schedule.sigmas.astype(np.float32)
        self._ladder, self._max_latency = ladder, model.config.max_latency
        self.noise = RowNoise()
        self.executed = RowActions(num_remembered, model.action_dim)
        self.windows = np.zeros((0, *model.window_shape), np.float32)
        self._next_step: list[int] = []

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None) -> None:
        """Forget the buffers of `rows`; without `rows`, make one per seed."""
        self.noise.reset(seeds, rows)
        if rows is None:
            self.windows = np.zeros((len(seeds), *self.windows.shape[1:]), np.float32)
            self.executed.reset(len(seeds))
            self._next_step = [NOT_STARTED] * len(seeds)
            return
        for row in rows.tolist():
            self._next_step[row] = NOT_STARTED

    def latencies(self, rows: list[int], steps: list[int], observed: list[int]) -> list[int]:
        """Control steps between each row's observation and its plan; `NOT_STARTED` if it starts.

        A row starts if it has no buffer, or one that was to go on at another step.
        """
        following = self._next_step
        if len(following) <= max(rows):
            check_reset(np.array(rows), len(following))
        return [
            min(step - seen, self._max_latency) if following[row] == step else NOT_STARTED
            for row, step, seen in zip(rows, steps, observed, strict=True)
        ]

    def expect(self, rows: list[int], steps: list[int]) -> None:
        """Let the buffers of `rows` go on at `steps`."""
        for row, step in zip(rows, steps, strict=True):
            self._next_step[row] = step

    def read(self, rows: np.ndarray, latency: int) -> np.ndarray:
        """Windows (R, H, D) at the start of a control step whose plan is `latency` steps late."""
        windows = self.windows[selection(rows, len(self.windows))]
        if not latency:
            return windows
        # The last executed actions before the chunks: some clean, in front of them noised ones.
        num_past, level = self._ladder.num_past, self._ladder.levels_per_step
        executed = self.normalised(self.executed.newest(rows, num_past + latency))  # (r, n, d)
        noise = self.noise.draw(rows, (num_past, executed.shape[2]))
        past = self._signal[level] * executed[:, :num_past] + self._sigma[level] * noise
        chunks = windows[:, num_past : windows.shape[1] - latency]  # (r, h - num_past - latency, d)
        return np.concatenate([past, executed[:, num_past:], chunks], axis=1)  # (r, h, d)

    def write(self, rows: np.ndarray, windows: np.ndarray) -> None:
        """Keep windows (R, H, D) for the next control step of `rows`."""
        self.windows[selection(rows, len(self.windows))] = windows

    def begin(self, rows: np.ndarray, clean: np.ndarray) -> None:
        """Let the past slots of normalised windows (R, H, D) be what was executed before."""
        if self.executed.length:
            before = clean[:, : max(self._ladder.num_past, 1)]
            self.executed.begin(rows, self._normalizer.inverse(torch.from_numpy(before)).numpy())

    def noised(self, rows: np.ndarray, clean: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Noise normalised windows (R, H, D) to `levels`, (H,): A_k = a_k A_0 + s_k z."""
        noise = self.noise.draw(rows, clean.shape[1:])
        return self._signal[levels][:, None] * clean + self._sigma[levels][:, None] * noise

    def normalised(self, actions: np.ndarray) -> np.ndarray:
        """Physical actions, shape (R, n, D), in the network's units, (R, n, N)."""
        return self._normalizer(torch.from_numpy(actions)).numpy()
