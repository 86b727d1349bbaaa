"""The running average of a policy's weights, kept with its other weights."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from hotloop.train.average import WeightAverage
from hotloop.train.config.training import OptimConfig


class StoredAverage(nn.Module):
    """hotloop's average as a module, under the names of PyTorch's `AveragedModel`.

    Updates are counted on the host too: reading the number that is stored would make it wait for
    the GPU in every step.

    Args:
        model: What is trained.
        config: The rule.

    Attributes:
        module: The averaged model.
        n_averaged: Updates so far, shape ().
    """

    n_averaged: Tensor

    def __init__(self, model: nn.Module, config: OptimConfig) -> None:
        super().__init__()
        self.module = deepcopy(model).requires_grad_(False)
        self.register_buffer("n_averaged", torch.tensor(0))
        self._config = config
        self._average: WeightAverage | None = None

    def update(self, model: nn.Module) -> None:
        """Take the present weights of `model` into the average."""
        if self._average is None:
            num_updates = int(self.n_averaged)
            self._average = WeightAverage(model, self._config, self.module, num_updates)
        self._average.update()
        self.n_averaged.add_(1)

    def _apply(self, *args: Any, **kwargs: Any) -> StoredAverage:
        self._average = None  # weights are moved to where it does not know them
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._average = None
        super()._load_from_state_dict(*args, **kwargs)
