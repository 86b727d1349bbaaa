"""ONNX Runtime: the fastest engine for small networks on a CPU."""

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
    import onnxruntime


class OnnxRuntimeEngine(BoundEngine):
    """Runs a program with ONNX Runtime.

    Args:
        program: What to run.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(program, OnnxRuntimeFunction)

    @staticmethod
    def obstacle() -> Exception | None:
        """Packages are needed; see `Engine`."""
        return missing_packages("onnx", "onnx", "onnxscript", "onnxruntime")


class OnnxRuntimeFunction:
    """One ONNX graph, loaded, with as many threads as PyTorch uses.

    Args:
        graph: Serialised ONNX model.
    """

    def __init__(self, graph: bytes) -> None:
        runtime = require("onnxruntime", "runtime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        # Threads that spin while they wait starve whatever else the robot's cores have to do.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._value = runtime.OrtValue.ortvalue_from_numpy
        self._session: onnxruntime.InferenceSession = runtime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )

    def bind(self, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> Run:
        """Return a call on fixed memory; see `Function`."""
        binding = self._session.io_binding()
        # On a CPU these share the arrays' memory instead of copying it.
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, self._value(array))
        ports = self._session.get_outputs()
        for port, array in zip(ports, outputs.values(), strict=True):
            binding.bind_ortvalue_output(port.name, self._value(array))
        # Keeps the arrays alive as long as the call.
        arrays = (*inputs.values(), *outputs.values())
        return partial(_run, self._session, binding, arrays)


def _run(session: onnxruntime.InferenceSession, binding: onnxruntime.IOBinding, _: object) -> None:
    session.run_with_iobinding(binding)
