"""Graphs as ONNX files: small ones, beside one file of all weights, each of them once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...decoding import exported_runtime
from ...decoding.exported_runtime import OnnxFunction, Plans
from ..programs.engines.onnx_graph import export_call, export_program, refuse_too_large
from ..programs.program import Call, Port, Program
from .formats import Compute, Format
from .parts import Exportable

if TYPE_CHECKING:
    import onnx

WEIGHTS = "weights.bin"
# Nothing in the graphs needs a newer one, and older runtimes read it.
IR_VERSION = 8
# Of more network calls each module is a file of its own, and the calls are a list.
MAX_UNROLLED = 20
_SMALL, _ALIGNMENT = 1024, 64  # [bytes] what stays in the graph, where it is known to be a shape


class Weights:
    """A file that holds every array once, as a context.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._places = path, dict[bytes, int]()

    def __enter__(self) -> Weights:
        """Open the file."""
        self._stream = self._path.open("wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file, and remove it if it holds nothing."""
        self._stream.close()
        if not self._places:
            self._path.unlink()

    def place(self, content: bytes) -> int:
        """Offset of a content [bytes]."""
        digest = hashlib.sha256(content).digest()
        if digest not in self._places:
            self._stream.write(bytes(-self._stream.tell() % _ALIGNMENT))
            self._places[digest] = self._stream.tell()
            self._stream.write(content)
        return self._places[digest]

    def move(self, model: onnx.ModelProto) -> None:
        """Take the large weights out of a model."""
        from onnx import TensorProto

        for tensor in model.graph.initializer:
            if len(tensor.raw_data) < _SMALL:
                continue
            where = {"location": WEIGHTS, "offset": self.place(tensor.raw_data)}
            where["length"] = len(tensor.raw_data)
            for key, value in where.items():
                tensor.external_data.add(key=key, value=str(value))
            tensor.data_location = TensorProto.EXTERNAL
            tensor.ClearField("raw_data")


class OnnxFiles:
    """Writes the graphs of one policy.

    Args:
        folder: Where to.
        weights: Its file of weights.

    Attributes:
        modules: What is known of files that several graphs call.
    """

    def __init__(self, folder: Path, weights: Weights) -> None:
        self._folder, self._weights = folder, weights
        self.modules: dict[str, dict[str, Any]] = {}
        self._names: dict[object, str] = {}

    def write(self, name: str, program: Program) -> dict[str, Any]:
        """Write a program; returns its ``file``, or the ``calls`` of modules that are files."""
        unrolled = program.num_calls <= MAX_UNROLLED
        refuse_too_large(program, joined=unrolled)
        values = example(program, rows=2)
        if unrolled:
            return self._save(name, export_program(program, values))
        return {"calls": [self._call(call, values) for call in program.calls]}

    def _call(self, call: Call, values: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        signature = (id(call.module), *call.arguments, *call.constants)
        if signature not in self._names:
            name = self._names[signature] = f"module-{len(self._names)}"
            ports = [_port(f"result_{i}", values[one]) for i, one in enumerate(call.outputs)]
            self.modules[name] = {**self._save(name, export_call(call, values)), "outputs": ports}
        constants = {name: value.contiguous().numpy() for name, value in call.constants.items()}
        for name, value in constants.items():
            assert value.dtype == np.float32, name
        return {
            "module": self._names[signature],
            "inputs": dict(call.arguments),
            "outputs": list(call.outputs),
            "constants": {
                name: {
                    "file": WEIGHTS,
                    "offset": self._weights.place(value.tobytes()),
                    "shape": list(value.shape),
                }
                for name, value in constants.items()
            },
        }

    def _save(self, name: str, exported: onnx.ModelProto) -> dict[str, Any]:
        """Write a model; returns its file and versions."""
        from onnx import ModelProto

        model = ModelProto()
        model.CopyFrom(exported)
        model.ir_version = IR_VERSION
        self._weights.move(model)
        path = self._folder / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        opset = max(one.version for one in model.opset_import if not one.domain)
        return {"file": path.name, "opset": opset, "ir_version": model.ir_version}


@torch.no_grad()
def example(program: Program, rows: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """All memory of a run on typical input."""
    drawn = program.draw(np.random.default_rng(seed), rows)
    return program.run({name: torch.from_numpy(array) for name, array in drawn.items()})


def ports(found: Mapping[str, Port]) -> list[dict[str, Any]]:
    """Inputs or outputs as plain data; the axis of rows comes before `shape`."""
    return [
        {"name": name, "shape": list(port.shape), "dtype": np.dtype(port.dtype).name}
        for name, port in found.items()
    ]


def _port(name: str, value: torch.Tensor) -> dict[str, Any]:
    return {"name": name, "shape": list(value.shape[1:]), "dtype": value.numpy().dtype.name}


def write_onnx(exportable: Exportable, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write all graphs; see `formats.Write`."""
    with Weights(folder / WEIGHTS) as weights:
        files = OnnxFiles(folder, weights)
        graphs = {name: files.write(name, one.program) for name, one in exportable.graphs.items()}
    return graphs, files.modules


def load_plans(folder: Path, function: Any = OnnxFunction) -> Compute:
    """Compute graphs as the runtime does; see `formats.Format.load`."""
    plans = Plans(folder, torch.get_num_threads(), function)

    def compute(name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        memory = plans.memory(name, len(next(iter(inputs.values()))))
        for key, array in inputs.items():
            memory.inputs[key][...] = array
        memory.run()
        return {key: array.copy() for key, array in memory.outputs.items()}

    return compute


RUNTIME = ("hotloop_runtime.py", exported_runtime)
ONNX = Format(
    write_onnx, load_plans, OnnxFunction.runtime, ("onnx", "onnxscript", "onnxruntime"), (RUNTIME,)
)
