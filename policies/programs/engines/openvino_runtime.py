"""OpenVINO: the fastest engine for convolutional networks on a CPU."""

from __future__ import annotations

import torch

from ....decoding.exported_openvino import OpenVinoFunction
from ..program import Program
from .bound import BoundEngine, missing_packages


class OpenVinoEngine(BoundEngine):
    """Runs a program with OpenVINO, with as many threads as PyTorch uses.

    Args:
        program: What to run.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(program, lambda graph: OpenVinoFunction(graph, torch.get_num_threads()))

    @staticmethod
    def obstacle() -> Exception | None:
        """Packages are needed; see `Engine`."""
        return missing_packages("openvino", "onnx", "onnxscript", "openvino")
