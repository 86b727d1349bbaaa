"""A program: network calls and the arithmetic between them, on named memory, with constants fixed.

Policies write down what they compute as a program; engines run it. A program knows nothing of
engines, an engine nothing of diffusion.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Port:
    """A named input or output of a program.

    Attributes:
        shape: Shape of one row.
        offset: Typical value, broadcast to `shape`; what a comparison of engines is tried on.
        scale: Typical deviation from it, and the unit in which engines may differ.
        dtype: Type of its numbers; bytes (uint8) are typically anything from 0 to 255, indices
            (int64) anything from 0 up to `scale`, which none reaches.
    """

    shape: tuple[int, ...]
    offset: Any = 0.0
    scale: Any = 1.0
    dtype: type[np.float32] | type[np.uint8] | type[np.int64] = np.float32

    def draw(self, generator: np.random.Generator, rows: int) -> np.ndarray:
        """Draw typical values of shape (R, *shape)."""
        if self.dtype is np.uint8:
            return generator.integers(0, 256, (rows, *self.shape), np.uint8)
        if self.dtype is np.int64:
            return generator.integers(0, self.scale, (rows, *self.shape), np.int64)
        noise = generator.standard_normal((rows, *self.shape))
        return (self.offset + self.scale * noise).astype(np.float32)

    def difference(self, found: np.ndarray, expected: np.ndarray) -> float:
        """Largest difference of two values of shape (R, *shape), in units of `scale`."""
        return float(np.max(np.abs(found - expected) / self.scale))


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module whose arguments are rows of named memory.

    Attributes:
        module: Free of data-dependent branches, so that it can be compiled.
        arguments: Parameter of its ``forward`` -> name in memory, shape (R, ...).
        outputs: Names of what it returns, shape (R, ...) each.
        constants: Further parameters that are the same at every run.
    """

    module: nn.Module
    arguments: Mapping[str, str]
    outputs: tuple[str, ...]
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    def run(self, memory: dict[str, Tensor]) -> None:
        """Execute with PyTorch on tensors by name."""
        inputs = {name: memory[source] for name, source in self.arguments.items()}
        result = self.module(**inputs, **self.constants)
        results = (result,) if isinstance(result, Tensor) else result
        memory.update(zip(self.outputs, results, strict=True))


@dataclass(frozen=True, eq=False)
class Program:
    """Calls in order.

    Attributes:
        inputs: What is written to memory before a run.
        outputs: What is read from it afterwards.
        calls: Each reads inputs and earlier outputs.
        num_calls: How many of them run the large network.
    """

    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    calls: Sequence[Call]
    num_calls: int = 1

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Execute with PyTorch, the definition that all engines follow; returns all memory."""
        memory = dict(inputs)
        for call in self.calls:
            call.run(memory)
        return memory

    @property
    def device(self) -> torch.device:
        """Where its weights are; the CPU without any."""
        modules = [call.module for call in self.calls]
        return next((p.device for m in modules for p in m.parameters()), torch.device("cpu"))

    @property
    def repeats_a_module(self) -> bool:
        """Whether some module is called more than once."""
        return max(Counter(id(call.module) for call in self.calls).values()) > 1

    def draw(self, generator: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
        """Draw typical inputs, shape (R, ...) each."""
        return {name: port.draw(generator, rows) for name, port in self.inputs.items()}

    def to(self, device: torch.device) -> Program:
        """Return a copy, its modules included, on another device."""
        memo: dict[int, Any] = {}  # modules share networks, which are copied once
        calls = []
        for call in self.calls:
            module = copy.deepcopy(call.module, memo).to(device)
            constants = {name: value.to(device) for name, value in call.constants.items()}
            calls.append(replace(call, module=module, constants=constants))
        return replace(self, calls=calls)
