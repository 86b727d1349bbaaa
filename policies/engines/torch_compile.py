"""`torch.compile`: PyTorch's own compiler; slow to start, no further package needed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ..model import DiffusionModel
from ..program import Encode, ReverseStep
from .bound import Call


class CompiledGraphs:
    """Compiles a model's functions with `torch.compile`.

    Args:
        model: Trained model.
    """

    def __init__(self, model: DiffusionModel) -> None:
        self._encode = Encode(model)
        self._step = ReverseStep(model)

    def encode(self) -> CompiledFunction:
        """Compile `Encode`; see `Graphs`."""
        return CompiledFunction(self._encode)

    def step(self) -> CompiledFunction:
        """Compile `ReverseStep`; see `Graphs`."""
        return CompiledFunction(self._step)

    def single(self, level_modulation: Tensor, coefficients: Tensor | None) -> CompiledFunction:
        """Compile both in a row; see `Graphs`."""
        return CompiledFunction(_Single(self._encode, self._step, level_modulation, coefficients))


class _Single(nn.Module):
    """Observation to next x, with the constants as part of the module."""

    def __init__(
        self,
        encode: Encode,
        step: ReverseStep,
        level_modulation: Tensor,
        coefficients: Tensor | None,
    ) -> None:
        super().__init__()
        self.encode, self.step = encode, step
        self.level_modulation, self.coefficients = level_modulation, coefficients

    def forward(self, observation: Tensor, x: Tensor) -> Tensor:
        modulation = self.encode(observation)
        return self.step(modulation, x, self.level_modulation, self.coefficients)


class CompiledFunction:
    """A module, compiled once for a single row and once for several, when first bound to them.

    Args:
        module: What to compile.
    """

    def __init__(self, module: nn.Module) -> None:
        # The compiler's own deprecation warnings are nothing that the user could act upon.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._run: Callable[..., Tensor] = torch.compile(module, dynamic=True)

    def bind(self, inputs: Mapping[str, np.ndarray], output: np.ndarray) -> Call:
        """Return a call on fixed memory; see `Function`."""
        run, target = self._run, torch.from_numpy(output)
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}

        @torch.no_grad()
        def call() -> None:
            target.copy_(run(**tensors))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
        return call
