"""Engines that run a program as prepared calls on memory that never moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import torch

from ....decoding.exported_runtime import Run
from ..program import Call, Program
from .memory import Memory, allocate
from .onnx_graph import export_call, export_program, refuse_too_large


class Function(Protocol):
    """A compiled graph of named arrays."""

    def bind(self, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> Run:
        """Return a call that reads `inputs` and writes `outputs`, as often as wanted.

        Both are named like the graph's own inputs and outputs, in their order.
        """
        ...


def missing_packages(name: str, *packages: str) -> Exception | None:
    """Return the error that says which packages of an engine are not installed, None if none."""
    missing = [package for package in packages if find_spec(package) is None]
    if not missing:
        return None
    return ImportError(
        f"engine {name!r} needs {', '.join(missing)}; install with `pip install 'hotloop[runtime]'`"
    )


class BoundEngine:
    """Runs a program with one runtime's compiled functions.

    A program that repeats no module becomes one function whose constants are part of the graph. A
    longer one runs its compiled modules again and again, their constants being inputs.

    Args:
        program: What to run.
        compile_graph: Loads a serialised ONNX model.
    """

    cpu_only = True

    def __init__(self, program: Program, compile_graph: Callable[[bytes], Function]) -> None:
        if program.device.type != "cpu":
            raise ValueError(
                f"this engine runs on the CPU, these weights are on {str(program.device)!r}; "
                "choose device=cpu, or engine auto, eager, compile or cuda-graph"
            )
        refuse_too_large(program, joined=not program.repeats_a_module)
        self.parity = float("nan")
        self._program = program
        self._memories: dict[int, Memory] = {}
        values = self._example(rows=2)
        self._functions: dict[tuple[object, ...], Function] = {}
        self._whole: Function | None = None
        if not program.repeats_a_module:
            self._whole = compile_graph(export_program(program, values).SerializeToString())
            return
        for call in program.calls:
            key = _signature(call)
            if key not in self._functions:
                graph = export_call(call, values)
                self._functions[key] = compile_graph(graph.SerializeToString())

    def memory(self, rows: int) -> Memory:
        """Memory of a run; see `Engine`."""
        if rows not in self._memories:
            self._memories[rows] = self._bind(rows)
        return self._memories[rows]

    def _bind(self, rows: int) -> Memory:
        inputs, outputs = allocate(self._program, rows)
        if self._whole is not None:
            return Memory(inputs, outputs, self._whole.bind(inputs, outputs))
        # Everything between inputs and outputs needs a place of its own.
        between = {
            name: np.zeros(value.shape, value.numpy().dtype)
            for name, value in self._example(rows).items()
        }
        arrays = {**between, **inputs, **outputs}
        runs = [self._bind_call(call, arrays) for call in self._program.calls]

        def run() -> None:
            for one in runs:
                one()

        return Memory(inputs, outputs, run)

    def _bind_call(self, call: Call, arrays: Mapping[str, np.ndarray]) -> Run:
        inputs = {name: arrays[source] for name, source in call.arguments.items()}
        constants = {
            name: value.contiguous().cpu().numpy() for name, value in call.constants.items()
        }
        outputs = {name: arrays[name] for name in call.outputs}
        return self._functions[_signature(call)].bind({**inputs, **constants}, outputs)

    @torch.no_grad()
    def _example(self, rows: int) -> dict[str, torch.Tensor]:
        """All memory of a run on typical input."""
        drawn = self._program.draw(np.random.default_rng(0), rows)
        return self._program.run({name: torch.from_numpy(array) for name, array in drawn.items()})


def _signature(call: Call) -> tuple[object, ...]:
    return (id(call.module), *call.arguments, *call.constants)
