"""Graphs run by OpenVINO, for folders of that format: ``Runtime(OUT, function=OpenVinoFunction)``.

A copy of this file lies in every such folder, as ``hotloop_openvino.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

Array = np.ndarray


class OpenVinoFunction:
    """One graph, compiled by OpenVINO twice: for one row, and for any number of rows.

    Args:
        graph: Serialised ONNX model, or the file of an ONNX or OpenVINO model.
        threads: Threads of one run.
        precision: What the processor computes in: f32 or bf16.
    """

    runtime = "openvino"

    def __init__(self, graph: str | bytes, threads: int, precision: str = "f32") -> None:
        self._openvino: Any = import_module("openvino")
        self._core = self._openvino.Core()
        self._graph, self._threads, self._precision = graph, threads, precision
        self._compiled: dict[bool, Any] = {}

    def bind(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> Callable[[], object]:
        """Return a call on fixed memory; see `exported_runtime.OnnxFunction`."""
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

    def _compile(self, inputs: Mapping[str, Array], single_row: bool) -> Any:
        if single_row not in self._compiled:
            model = self._core.read_model(self._graph)
            if single_row:
                # Known shapes make a call about a tenth faster.
                model.reshape({name: list(array.shape) for name, array in inputs.items()})
            options = {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": self._threads,
                # The default is bfloat16 where the processor has it.
                "INFERENCE_PRECISION_HINT": self._precision,
                "ENABLE_CPU_PINNING": False,
                # Its code generator for fused elementwise operations rejects some networks with
                # Mish; leaving it out costs nothing measurable.
                "SNIPPETS_MODE": "DISABLE",
            }
            self._compiled[single_row] = self._core.compile_model(model, "CPU", options)
        return self._compiled[single_row]
