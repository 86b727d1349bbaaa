"""The running average of a model's weights, which is what checkpoints hold."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .config.training import OptimConfig

# Over lists of tensors: a few launches on a GPU instead of two per weight.
_copy_all, _lerp_all = torch._foreach_copy_, torch._foreach_lerp_  # pyright: ignore


def ema_decay(config: OptimConfig, num_updates: int) -> float:
    """Decay after t updates, 1 - (1 + t) ** -power, at most `ema_max`."""
    return min(1 - (1 + num_updates) ** -config.ema_power, config.ema_max)


class WeightAverage:
    """Exponential moving average of the weights that are trained; the rest is copied.

    `AveragedModel` counts its updates on the device, and reading that number would make the host
    wait for the device in every step.

    Args:
        model: What is trained, where it will be trained.
        config: The rule.
        module: The average so far, where the model is; a copy of the model to begin with.
        num_updates: Weights that it is the average of already.

    Attributes:
        module: The averaged model.
        num_updates: Weights that it is the average of.
    """

    def __init__(
        self,
        model: nn.Module,
        config: OptimConfig,
        module: nn.Module | None = None,
        num_updates: int = 0,
    ) -> None:
        self.module: Any = copy.deepcopy(model) if module is None else module
        self.num_updates = num_updates
        self._config = config
        pairs = list(zip(self.module.parameters(), model.parameters(), strict=True))
        # The parameters and not their tensors, which change when processes train together.
        trained = [(mean, value) for mean, value in pairs if value.requires_grad]
        self._means: list[Tensor] = [one for one, _ in trained]
        self._values: list[Tensor] = [one for _, one in trained]
        self._copies, self._buffers = list(self.module.buffers()), list(model.buffers())

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's present weights into the average; the first are the average."""
        if self.num_updates == 0:
            _copy_all(self._means, self._values)
        else:
            decay = ema_decay(self._config, self.num_updates)
            _lerp_all(self._means, self._values, 1 - decay)
        if self._copies:
            _copy_all(self._copies, self._buffers)
        self.num_updates += 1
