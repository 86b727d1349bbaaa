"""The contract between the training loop and what it minimises."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ...decoding.placed import placed

D = TypeVar("D", bound="Drawn")


@dataclass(frozen=True)
class Drawn:
    """What an objective draws for a batch: tensors (B, ...), None where unused, or such again.

    Some stay on the CPU for what the host must know of each row, such as which rows jump.
    """

    def select(self: D, rows: Any) -> D:
        """The same of some rows: a slice, or a tensor of indices (R,) on the CPU."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(
            self,
            **{
                name: value.select(rows) if isinstance(value, Drawn) else _rows_of(value, rows)
                for name, value in values.items()
                if value is not None
            },
        )


def _rows_of(value: Tensor, rows: Any) -> Tensor:
    return value[rows if isinstance(rows, slice) else placed(rows, value.device)]


class TrainingWindows(Protocol):
    """Samples of a dataset, by index."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def gather(self, current: Tensor, /) -> Any:
        """Batch of the samples at indices of shape (B,), with a ``to(device, non_blocking)``."""
        ...


class Objective(Protocol):
    """A loss with its own random draws: one module, so that it can be wrapped for many devices."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        ...

    def prepare(self, step: int) -> None:
        """Called before the draw of each step."""
        ...

    def draw(self, batch: Any, generator: torch.Generator) -> Any:
        """Turn a global batch into a dataclass of tensors, all randomness included, see `Drawn`.

        Args:
            batch: What the windows gather, see `batch_device`.
            generator: Source of all random numbers, see `draw_device`.
        """
        ...

    def __call__(self, inputs: Any) -> Tensor:
        """Mean loss over the rows of `inputs`, shape ()."""
        ...


def draw_device(objective: Objective, device: torch.device) -> torch.device:
    """Where the generator is that an objective draws from.

    On the model's device if the class says ``draws_on_device = True``: nothing it computes may then
    depend on a number that the host would have to wait for. Else it is on the CPU, as it is for
    every run there, and the numbers are the same on every device.
    """
    return device if getattr(objective, "draws_on_device", False) else torch.device("cpu")


def batch_device(objective: Objective, device: torch.device) -> torch.device:
    """Where an objective reads its batches: where the model is.

    Or on the CPU if the class says ``reads_on_host = True``: what it makes of them, such as tokens,
    is made there, and it moves that by itself.
    """
    return torch.device("cpu") if getattr(objective, "reads_on_host", False) else device
