"""What an engine is, and how one is chosen by name."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import torch

from ..program import Program
from .eager import EagerEngine
from .memory import Memory

ENGINES = ("eager", "compile", "onnx", "openvino", "cuda-graph")
# Largest accepted difference from eager PyTorch, in units of the outputs' scales; float32 rounding
# stays two orders of magnitude below, a half-precision matrix product does not.
TOLERANCE = 1e-3
_RUNTIME_PACKAGES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
}


class Engine(Protocol):
    """Executes one program for any number of rows.

    Attributes:
        parity: Largest absolute difference from eager PyTorch, found when the engine was built, in
            units of the outputs' scales.
    """

    parity: float

    def memory(self, rows: int) -> Memory:
        """Memory of a run of so many rows, the same at every call."""
        ...


def make_engine(name: str, program: Program) -> Engine:
    """Build the engine called `name` and compare it with eager PyTorch.

    Raises:
        ValueError: If the name is unknown, the machine lacks what the engine needs, or its
            results are not those of eager PyTorch.
        ImportError: If a package is missing.
    """
    if name not in ENGINES:
        near = difflib.get_close_matches(name, ENGINES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {name!r}{hint}")
    if name == "eager":
        return EagerEngine(program)
    if obstacle := find_obstacle(name):
        raise obstacle
    engine = _build(name, program)
    engine.parity = max_difference(engine, EagerEngine(program), program)
    # Written so that NaN, which fails every comparison, is a mismatch.
    if not engine.parity <= TOLERANCE:
        raise ValueError(
            f"engine {name!r} differs from eager PyTorch by {engine.parity:.2g} in units of the "
            f"outputs' scales, at most {TOLERANCE:g} is accepted; use another engine"
        )
    return engine


def installed_engines() -> tuple[str, ...]:
    """Names of the engines that this machine can run."""
    return tuple(name for name in ENGINES if find_obstacle(name) is None)


def find_obstacle(name: str) -> Exception | None:
    """Return the error that says what the engine called `name` lacks here, None if nothing."""
    missing = [package for package in _RUNTIME_PACKAGES.get(name, ()) if find_spec(package) is None]
    if missing:
        return ImportError(
            f"engine {name!r} needs {', '.join(missing)}; install with "
            "`pip install 'hotloop[runtime]'`"
        )
    compiler = os.environ.get("CXX", "g++")
    if name == "compile" and shutil.which(compiler) is None:
        return ValueError(
            f"engine 'compile' needs a C++ compiler, and {compiler!r} is not on the PATH; install "
            "g++ or point the environment variable CXX to a compiler"
        )
    if name == "cuda-graph" and not torch.cuda.is_available():
        return ValueError(
            "engine 'cuda-graph' needs an NVIDIA GPU that PyTorch can use: none found"
        )
    return None


def run(engine: Engine, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run once on `inputs`, shape (R, ...) each, and return copies of the outputs."""
    memory = engine.memory(len(next(iter(inputs.values()))))
    for name, array in inputs.items():
        memory.inputs[name][...] = array
    memory.run()
    return {name: array.copy() for name, array in memory.outputs.items()}


def max_difference(engine: Engine, reference: Engine, program: Program, seed: int = 0) -> float:
    """Largest difference of two engines on typical input, for one and for three rows.

    It is measured in units of the outputs' scales.
    """
    generator = np.random.default_rng(seed)
    differences = []
    for rows in (1, 3):
        inputs = program.draw(generator, rows)
        found, expected = run(engine, inputs), run(reference, inputs)
        differences += [
            np.max(np.abs(found[name] - expected[name]) / port.scale)
            for name, port in program.outputs.items()
        ]
    return float(np.max(differences))


def _build(name: str, program: Program) -> Engine:
    if name == "cuda-graph":
        from .cuda_graph import CudaGraphEngine

        return CudaGraphEngine(program)
    if name == "compile":
        from .torch_compile import CompiledEngine

        return CompiledEngine(program)
    from .bound import BoundEngine

    if name == "onnx":
        from .onnx_runtime import OnnxRuntimeFunction as Function
    else:
        from .openvino_runtime import OpenVinoFunction as Function
    return BoundEngine(program, Function)
