"""A bank's trajectories as training samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.windows import Windows
from ..objectives.observed import Seen
from .bank import Bank


@dataclass(frozen=True)
class TrajectoryBatch:
    """Trajectories to learn from.

    Attributes:
        seen: Observations that they belong to, of B windows.
        actions: Demonstrated actions of the same windows, physical, shape (B, H, D).
        states: Normalised actions along the trajectories, shape (B, K + 1, H, D).
    """

    seen: Seen
    actions: Tensor
    states: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> TrajectoryBatch:
        """Return the batch on `device`; `non_blocking` as in `torch.Tensor.to`."""

        def move(one: Tensor) -> Tensor:
            return one.to(device, non_blocking=non_blocking)

        features = None if self.seen.features is None else move(self.seen.features)
        seen = Seen(move(self.seen.vectors), features=features)
        return TrajectoryBatch(seen, move(self.actions), move(self.states))


class TrajectoryWindows:
    """Every trajectory of a bank as one training sample.

    Args:
        bank: Trajectories.
        windows: Windows that they begin in, with the features of pictures where there are any.
    """

    def __init__(self, bank: Bank, windows: Windows) -> None:
        self.bank, self._windows = bank, windows

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self.bank.current)

    def gather(self, rows: Tensor) -> TrajectoryBatch:
        """Trajectories at indices of shape (B,)."""
        at = rows.numpy()
        batch = self._windows.gather(torch.from_numpy(self.bank.current[at]))
        features = batch.features
        if features is not None:
            features = features[torch.arange(len(at)), :, torch.from_numpy(self.bank.crop[at])]
        return TrajectoryBatch(
            Seen(torch.from_numpy(self.bank.vectors[at]), features=features),
            batch.actions,
            torch.from_numpy(self.bank.states[at]),
        )
