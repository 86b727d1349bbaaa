"""OpenVINO: the fastest engine for convolutional networks on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from ....decoding.plumbing.extras import require
from ..program import Program
from .bound import BoundEngine, Run, missing_packages

if TYPE_CHECKING:
    import openvino


class OpenVinoEngine(BoundEngine):
    """Runs a program with OpenVINO.

    Args:
        program: What to run.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(program, OpenVinoFunction)

    @staticmethod
    def obstacle() -> Exception | None:
        """Packages are needed; see `Engine`."""
        return missing_packages("openvino", "onnx", "onnxscript", "openvino")


class OpenVinoBfloat16Engine(BoundEngine):
    """Runs a program with OpenVINO in bfloat16, for networks whose weights no cache holds.

    Numbers have three digits, so actions differ from those of eager PyTorch by more than rounding
    of float32; what they differ by is measured and bounded as for every engine.

    Args:
        program: What to run.
    """

    tolerance = 0.05

    def __init__(self, program: Program) -> None:
        super().__init__(program, partial(OpenVinoFunction, precision="bf16"))

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


class OpenVinoFunction:
    """One ONNX graph, compiled twice: for one row, and for any number of rows.

    Args:
        graph: Serialised ONNX model.
        precision: What the processor computes in: f32 or bf16.
    """

    def __init__(self, graph: bytes, precision: str = "f32") -> None:
        self._precision = precision
        self._openvino = require("openvino", "runtime")
        self._core: openvino.Core = self._openvino.Core()
        self._graph = graph
        self._compiled: dict[bool, openvino.CompiledModel] = {}

    def bind(self, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> Run:
        """Return a call on fixed memory; see `Function`."""
        single_row = all(len(array) == 1 for array in outputs.values())
        request = self._compile(inputs, single_row).create_infer_request()
        for name, array in inputs.items():
            request.set_tensor(name, self._openvino.Tensor(array, shared_memory=True))
        for index, array in enumerate(outputs.values()):
            request.set_output_tensor(index, self._openvino.Tensor(array, shared_memory=True))
        arrays = (*inputs.values(), *outputs.values())

        # The default argument keeps the arrays alive as long as the call.
        def run(_: object = arrays) -> None:
            # Runs in this thread; an asynchronous request would wait for another one to wake up.
            request.infer(share_inputs=True, share_outputs=True)

        return run

    def _compile(
        self, inputs: Mapping[str, np.ndarray], single_row: bool
    ) -> openvino.CompiledModel:
        if single_row not in self._compiled:
            model = self._core.read_model(self._graph)
            if single_row:
                # Known shapes make a call about a tenth faster.
                model.reshape({name: list(array.shape) for name, array in inputs.items()})
            options = {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                # The default is bfloat16 where the processor has it.
                "INFERENCE_PRECISION_HINT": self._precision,
                "ENABLE_CPU_PINNING": False,
                # Its code generator for fused elementwise operations rejects some networks with
                # Mish; leaving it out costs nothing measurable.
                "SNIPPETS_MODE": "DISABLE",
            }
            self._compiled[single_row] = self._core.compile_model(model, "CPU", options)
        return self._compiled[single_row]
