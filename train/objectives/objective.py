"""The contract between the training loop and what it minimises."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

D = TypeVar("D", bound="Drawn")


@dataclass(frozen=True)
class Drawn:
    """What an objective draws for a batch: tensors (B, ...), None where unused, or such again."""

    def select(self: D, rows: Any) -> D:
        """The same of some rows: a slice, or a tensor that indexes the first dimension."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(
            self,
            **{
                name: value.select(rows) if isinstance(value, Drawn) else value[rows]
                for name, value in values.items()
                if value is not None
            },
        )


class TrainingWindows(Protocol):
    """Samples of a dataset, by index."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def gather(self, current: Tensor, /) -> Any:
        """Batch of the samples at indices of shape (B,); it can be moved with ``to(device)``."""
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

        Random numbers come from a CPU generator, so they are the same on every device.
        """
        ...

    def __call__(self, inputs: Any) -> Tensor:
        """Mean loss over the rows of `inputs`, shape ()."""
        ...
