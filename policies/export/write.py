"""Exported folders: written in one piece, and only if they do what the checkpoint does."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding.exported import FUNCTIONS, ExportedPolicy
from ...decoding.exported_runtime import FORMAT, FORMAT_VERSION, POLICY_FILE, seal_of
from ...decoding.interface import is_picture
from ...decoding.plumbing.files import replacing
from ...decoding.plumbing.machine import package_version
from ..checkpoint import Checkpoint
from ..kinds import kind_of
from ..programs.engines.engine import TOLERANCE
from .formats import FORMATS, Format
from .gate import check_closed_loop, check_graphs
from .onnx_files import example, ports
from .parts import Exportable

GOLDEN_FILE, PARITY_FILE = "golden.json", "PARITY.json"
PACKAGES = ("hotloop", "torch", "numpy", "onnx", "onnxruntime", "openvino")


def export_policy(
    checkpoint: Checkpoint,
    folder: Path,
    format_name: str = "onnx",
    sampling: Mapping[str, Any] | None = None,
    notes: Mapping[str, Any] | None = None,
    num_steps: int = 200,
) -> dict[str, Any]:
    """Write a checkpoint as graphs that run without PyTorch; returns the parity that was found.

    Args:
        checkpoint: What to export.
        folder: Where to; it appears under its name only when it is complete.
        format_name: Name in `FORMATS`.
        sampling: Choices that differ from the stored ones; they are fixed in the graphs.
        notes: Further entries of ``policy.json``, JSON-able.
        num_steps: Control steps of the closed loop that is compared.

    Raises:
        ValueError: If there is no such format, this policy cannot be exported, or the graphs
            differ from eager PyTorch; nothing is written then.
        ImportError: If a package is missing.
    """
    form = FORMATS.get(format_name)
    form.refuse_missing(format_name)
    export = kind_of(checkpoint.kind).export
    if export is None:
        raise ValueError(
            f"a policy of kind {checkpoint.kind!r} cannot be exported: no fixed graphs say what it "
            "computes, which depends on what it has found; run the checkpoint itself"
        )
    choices = checkpoint.choices(sampling)
    exportable = export(checkpoint.model, checkpoint.action_spec, choices)
    with replacing(Path(folder)) as partial:
        partial.mkdir()
        graphs, modules = form.write(exportable, partial)
        about = _about(checkpoint, exportable, form, graphs, modules)
        about["files"] = {path.name: _digest(path) for path in sorted(partial.iterdir())}
        about |= {"provenance": dict(checkpoint.provenance), **(notes or {})}
        about = json.loads(json.dumps(about))  # as it is read
        _write_json(partial / POLICY_FILE, about | {"seal": seal_of(about)})
        for name, module in form.programs:
            shutil.copyfile(str(module.__file__), partial / name)
        parity = {
            "tolerance": TOLERANCE,
            "unit": "scale of each output",
            "graphs": check_graphs(exportable, form.load(partial)),
        }
        if form.runtime in FUNCTIONS:
            eager = kind_of(checkpoint.kind).policy(
                checkpoint.model, checkpoint.action_spec, choices, "eager"
            )
            exported = ExportedPolicy(partial)
            parity["closed_loop"] = check_closed_loop(exported, eager, exportable, num_steps)
        parity |= {"versions": _versions(), "files": about["files"]}
        _write_json(partial / GOLDEN_FILE, _golden(exportable))
        _write_json(partial / PARITY_FILE, parity)
        form.finish(exportable, partial)
    return parity


def _about(
    checkpoint: Checkpoint,
    exportable: Exportable,
    form: Format,
    graphs: Mapping[str, Any],
    modules: Mapping[str, Any],
) -> dict[str, Any]:
    """What ``policy.json`` says, without the hashes."""
    spec, model = checkpoint.action_spec, checkpoint.model
    low, high = spec.float32_bounds
    observation = [
        {
            "key": key,
            "shape": list(shape),
            "dtype": "uint8" if is_picture(shape) else "float32",
        }
        for key, shape in model.observation_shapes.items()
    ]
    described = {
        name: {
            **graphs[name],
            "inputs": ports(graph.program.inputs),
            "outputs": ports(graph.program.outputs),
            **({} if graph.late is None else {"late": graph.late}),
            "noise_level": _levels(graph.noise_level, graph.program.outputs),
        }
        for name, graph in exportable.graphs.items()
    }
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "hotloop_version": _versions()["hotloop"],
        "runtime": form.runtime,
        "kind": checkpoint.kind,
        "dt": spec.dt,
        "num_obs_steps": exportable.num_obs_steps,
        "num_execute": exportable.num_execute,
        "from_observation": exportable.from_observation,
        "observation": observation,
        "action": {"names": list(spec.names), "low": low.tolist(), "high": high.tolist()},
        "state": {name: list(shape) for name, shape in exportable.state.items()},
        "state_input": dict(exportable.state_input),
        "noise": {name: list(graph.noise) for name, graph in exportable.graphs.items()},
        "graphs": described,
        "modules": dict(modules),
    }


def _levels(noise_level: np.ndarray, outputs: Mapping[str, Any]) -> list[float]:
    """How noisy each planned action is; all of them are clean where nothing is said."""
    if len(noise_level) or "actions" not in outputs:
        return noise_level.tolist()
    return [0.0] * outputs["actions"].shape[0]


def _golden(exportable: Exportable) -> dict[str, Any]:
    """One input and output of each graph, by eager PyTorch: the test of every other language."""
    golden = dict[str, Any]()
    for name, graph in exportable.graphs.items():
        memory = example(graph.program, rows=1, seed=1)
        golden[name] = {
            side: {key: memory[key].tolist() for key in found}
            for side, found in (
                ("inputs", graph.program.inputs),
                ("outputs", graph.program.outputs),
            )
        }
    return golden


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _versions() -> dict[str, str | None]:
    return {name: package_version(name) for name in PACKAGES}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
