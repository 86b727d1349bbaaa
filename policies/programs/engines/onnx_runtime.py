"""ONNX Runtime: the fastest engine for small networks on a CPU."""

from __future__ import annotations

import torch

from ....decoding.exported_runtime import OnnxFunction
from ..program import Program
from .bound import BoundEngine, missing_packages


class OnnxRuntimeEngine(BoundEngine):
    """Runs a program with ONNX Runtime, with as many threads as PyTorch uses.

    Args:
        program: What to run.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(program, lambda graph: OnnxFunction(graph, torch.get_num_threads()))

    @staticmethod
    def obstacle() -> Exception | None:
        """Packages are needed; see `Engine`."""
        return missing_packages("onnx", "onnx", "onnxscript", "onnxruntime")
