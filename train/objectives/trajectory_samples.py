"""Jacobi trajectories as training samples: what is decoded, from where, and labelled how."""

from __future__ import annotations

import torch
from torch import Tensor

from ...policies.vla.model import VlaModel
from ..data.windows import Windows
from .jacobi_trajectories import Trajectories
from .vla import TrajectoryBatch
from .vla_losses import chunk_distance, distance_quantile, mixed_labels


class TrajectorySamples:
    """Collected trajectories with their observations and labels, by index.

    Args:
        model: Whose tokenizer made them.
        windows: Dataset that they were collected on.
        trajectories: The trajectories.
        label_quantile: Share of chunks for which the teacher is believed; see `mixed_labels`.

    Raises:
        ValueError: If they belong to other chunks or another dataset.
    """

    def __init__(
        self,
        model: VlaModel,
        windows: Windows,
        trajectories: Trajectories,
        label_quantile: float,
    ) -> None:
        tokenizer = model.action_tokenizer
        if trajectories.fixed.shape[1] != tokenizer.num_tokens:
            raise ValueError(
                f"the trajectories have blocks of {trajectories.fixed.shape[1]} tokens, the "
                f"model's have {tokenizer.num_tokens}"
            )
        if int(trajectories.index.max()) >= len(windows):
            raise ValueError(
                f"the trajectories reach to sample {int(trajectories.index.max())}, the dataset "
                f"has {len(windows)}; collect them again on this dataset"
            )
        self._windows, self._trajectories = windows, trajectories
        self._fixed, demonstrated = trajectories.fixed.long(), trajectories.labels.long()
        values = [
            torch.from_numpy(tokenizer.normalised(tokens.numpy()))
            for tokens in (self._fixed, demonstrated)
        ]
        distance = chunk_distance(*values)
        self.max_distance = distance_quantile(distance, label_quantile)
        self._labels, replaced = mixed_labels(
            self._fixed, demonstrated, distance, self.max_distance
        )
        self.replaced_share = float(replaced.float().mean())

    def __len__(self) -> int:
        """Number of prompts with a trajectory."""
        return len(self._fixed)

    def gather(self, current: Tensor) -> TrajectoryBatch:
        """Samples `current`, integer, shape (B,)."""
        return TrajectoryBatch(
            self._windows.gather(self._trajectories.index[current]),
            [self._trajectories.iterates_of(row) for row in current.tolist()],
            self._trajectories.guesses[current].long(),
            self._fixed[current],
            self._labels[current],
        )
