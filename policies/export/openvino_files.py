"""Graphs as OpenVINO models: what its C++ and Python interfaces read, with nothing else."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ...decoding import exported_openvino
from ...decoding.exported_openvino import OpenVinoFunction
from ...decoding.plumbing.extras import require
from .formats import Format
from .onnx_files import RUNTIME, WEIGHTS, load_plans, write_onnx
from .parts import Exportable


def write_openvino(exportable: Exportable, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write all graphs, float32 as they are; see `formats.Write`."""
    openvino = require("openvino", "runtime")
    graphs, modules = write_onnx(exportable, folder)
    core = openvino.Core()
    for entry in {**graphs, **modules}.values():
        if "file" in entry:
            source = folder / entry["file"]
            entry["file"] = source.with_suffix(".xml").name
            # The default writes half precision.
            openvino.save_model(
                core.read_model(source), folder / entry["file"], compress_to_fp16=False
            )
            source.unlink()
    if not any("calls" in entry for entry in graphs.values()):
        (folder / WEIGHTS).unlink(missing_ok=True)
    return graphs, modules


OPENVINO = Format(
    write_openvino,
    partial(load_plans, function=OpenVinoFunction),
    OpenVinoFunction.runtime,
    ("onnx", "onnxscript", "openvino"),
    (RUNTIME, ("hotloop_openvino.py", exported_openvino)),
)
