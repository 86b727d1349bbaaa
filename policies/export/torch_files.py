"""Graphs as PyTorch's own exported programs, for AOTInductor and ExecuTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...decoding.plumbing.files import read_json_object
from ..programs.program import Program
from .formats import Compute, Format
from .onnx_files import example
from .parts import Exportable


class Whole(nn.Module):
    """A program as one module: inputs and outputs in the program's order.

    Args:
        program: The program.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.modules_called = nn.ModuleList(call.module for call in program.calls)
        self.program = program

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, shape (R, ...) each."""
        memory = self.program.run(dict(zip(self.program.inputs, inputs, strict=True)))
        return tuple(memory[name] for name in self.program.outputs)


def write_torch(exportable: Exportable, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write all graphs; see `formats.Write`."""
    rows, graphs = torch.export.Dim("rows"), dict[str, Any]()
    for name, graph in exportable.graphs.items():
        values = example(graph.program, rows=2)
        inputs = tuple(values[one] for one in graph.program.inputs)
        shapes = {"inputs": tuple({0: rows} for _ in inputs)}
        exported = torch.export.export(Whole(graph.program), inputs, dynamic_shapes=shapes)
        path = folder / f"{name}.pt2"
        torch.export.save(exported, path)
        graphs[name] = {"file": path.name}
    return graphs, {}


def load_torch(folder: Path) -> Compute:
    """Compute graphs with PyTorch; see `formats.Format.load`."""
    about = read_json_object(folder / "policy.json")["graphs"]
    modules = {
        name: torch.export.load(folder / entry["file"]).module() for name, entry in about.items()
    }

    def compute(name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = [torch.from_numpy(inputs[one["name"]]) for one in about[name]["inputs"]]
        names = [one["name"] for one in about[name]["outputs"]]
        results = modules[name](*given)
        return {key: value.numpy() for key, value in zip(names, results, strict=True)}

    return compute


TORCH_EXPORT = Format(write_torch, load_torch, "torch-export", ())
