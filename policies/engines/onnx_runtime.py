"""ONNX Runtime: the fastest engine for small networks on a CPU."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from ..model import DiffusionModel
from .bound import Call
from .onnx_graph import OnnxGraph


class OnnxRuntimeGraphs:
    """Compiles a model's functions with ONNX Runtime, with as many threads as PyTorch uses.

    Args:
        model: Trained model.
    """

    def __init__(self, model: DiffusionModel) -> None:
        self._graph = OnnxGraph(model)

    def encode(self) -> OnnxRuntimeFunction:
        """Compile `Encode`; see `Graphs`."""
        return OnnxRuntimeFunction(self._graph.encode())

    def step(self) -> OnnxRuntimeFunction:
        """Compile `ReverseStep`; see `Graphs`."""
        return OnnxRuntimeFunction(self._graph.step())

    def single(self, level_modulation: Tensor, coefficients: Tensor | None) -> OnnxRuntimeFunction:
        """Compile both in a row; see `Graphs`."""
        return OnnxRuntimeFunction(self._graph.single(level_modulation, coefficients))


class OnnxRuntimeFunction:
    """One ONNX graph, loaded.

    Args:
        graph: Serialised ONNX model.
    """

    def __init__(self, graph: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        # Threads that spin while they wait starve whatever else the robot's cores have to do.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )

    def bind(self, inputs: Mapping[str, np.ndarray], output: np.ndarray) -> Call:
        """Return a call on fixed memory; see `Function`."""
        session, binding = self._session, self._session.io_binding()
        # On a CPU these share the arrays' memory instead of copying it.
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        target = onnxruntime.OrtValue.ortvalue_from_numpy(output)
        binding.bind_ortvalue_output(session.get_outputs()[0].name, target)
        arrays = (*inputs.values(), output)

        # The default argument keeps the arrays alive as long as the call.
        def call(_: object = arrays) -> None:
            session.run_with_iobinding(binding)

        return call
