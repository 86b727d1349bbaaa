"""`torch.compile`: PyTorch's own compiler; slow to start, no further package needed."""

from __future__ import annotations

import os
import shutil
import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..program import Call, Program
from .eager import EagerEngine
from .memory import Memory


class CompiledEngine(EagerEngine):
    """Runs a program with its modules compiled, as one function if no module is repeated.

    Args:
        program: What to run.
    """

    slow_to_build = True

    def __init__(self, program: Program) -> None:
        # The compiler's own deprecation warnings are nothing that the user could act upon.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super().__init__(compiled(program, dynamic=True))
        self.parity = float("nan")

    @staticmethod
    def obstacle() -> Exception | None:
        """A C++ compiler is needed; see `Engine`."""
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is not None:
            return None
        return ValueError(
            f"engine 'compile' needs a C++ compiler, and {compiler!r} is not on the PATH; install "
            "g++ or point the environment variable CXX to a compiler"
        )

    def _make_memory(self, rows: int) -> Memory:
        memory = super()._make_memory(rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            memory.run()
        return memory


def compiled(program: Program, dynamic: bool | None) -> Program:
    """The program with its modules compiled, as one function if no module is repeated.

    Args:
        program: The program.
        dynamic: Whether one function is made for any number of rows; None for one row first, then
            for any other number.
    """
    if program.repeats_a_module:
        modules = {
            id(call.module): torch.compile(call.module, dynamic=dynamic) for call in program.calls
        }
        calls = [replace(call, module=modules[id(call.module)]) for call in program.calls]
        return replace(program, calls=calls)
    arguments = {f"input_{index}": name for index, name in enumerate(program.inputs)}
    whole: Any = torch.compile(_Whole(program, arguments), dynamic=dynamic)
    return replace(program, calls=[Call(whole, arguments, tuple(program.outputs))])


class _Whole(nn.Module):
    """A program as one module; names of memory, which may hold dots, become parameters."""

    def __init__(self, program: Program, arguments: dict[str, str]) -> None:
        super().__init__()
        self.modules_called = nn.ModuleList(call.module for call in program.calls)
        self.program, self.arguments_of = program, arguments

    def forward(self, **inputs: Tensor) -> tuple[Tensor, ...]:
        memory = self.program.run({name: inputs[key] for key, name in self.arguments_of.items()})
        return tuple(memory[name] for name in self.program.outputs)
