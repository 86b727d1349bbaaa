"""OpenVINO: the fastest engine for convolutional networks on a CPU."""

from __future__ import annotations

import torch

from ....decoding.exported_openvino import OpenVinoFunction
from ....decoding.plumbing.extras import require
from ..program import Program
from .bound import BoundEngine, missing_packages


class OpenVinoEngine(BoundEngine):
    """Runs a program with OpenVINO, with as many threads as PyTorch uses.

    Args:
        program: What to run.
    """

    precision = "f32"

    def __init__(self, program: Program) -> None:
        def compiled(graph: bytes) -> OpenVinoFunction:
            return OpenVinoFunction(graph, torch.get_num_threads(), self.precision)

        super().__init__(program, compiled)

    @staticmethod
    def obstacle() -> Exception | None:
        """Packages are needed; see `Engine`."""
        return missing_packages("openvino", "onnx", "onnxscript", "openvino")


class OpenVinoBfloat16Engine(OpenVinoEngine):
    """Runs a program with OpenVINO in bfloat16, for networks whose weights no cache holds.

    Numbers have three digits, so actions differ from those of eager PyTorch by more than rounding
    of float32; what they differ by is measured and bounded as for every engine.

    Args:
        program: What to run.
    """

    precision = "bf16"
    tolerance = 0.1

    @staticmethod
    def obstacle() -> Exception | None:
        """Packages and a processor with bfloat16 are needed; see `Engine`."""
        if missing := missing_packages("openvino-bf16", "onnx", "onnxscript", "openvino"):
            return missing
        capabilities = (
            require("openvino", "runtime").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        )
        if "BF16" in capabilities:
            return None
        return ValueError(
            "engine 'openvino-bf16' needs a processor that computes in bfloat16, which this one "
            "does not; use 'openvino'"
        )
