"""ONNX graphs, and the command that makes TensorRT engines of them where they are to run."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from .onnx_files import ONNX
from .parts import Exportable, Graph

SCRIPT = "build_tensorrt.sh"
MAX_ROWS = 8
HEAD = f"""\
#!/bin/sh
# Builds TensorRT engines, one per graph, for 1 to {MAX_ROWS} rows, in float32. An engine belongs to
# one GPU and one version of TensorRT: run this on the machine that runs the policy. Nothing here
# compares an engine with the graphs; golden.json holds an input and an output of each.
set -e
cd "$(dirname "$0")"
"""


def command(name: str, graph: Graph) -> str:
    """The command line for one graph."""
    words = ["trtexec", f"--onnx={name}.onnx", f"--saveEngine={name}.plan", "--noTF32"]
    for option, rows in (("minShapes", 1), ("optShapes", 1), ("maxShapes", MAX_ROWS)):
        shapes = [
            f"{key}:{'x'.join(map(str, (rows, *port.shape)))}"
            for key, port in graph.program.inputs.items()
        ]
        words.append(f"--{option}={','.join(shapes)}")
    return shlex.join(words)


def finish(exportable: Exportable, folder: Path) -> None:
    """Write the script, and run it where TensorRT is installed.

    Raises:
        ValueError: If TensorRT is there and cannot build an engine.
    """
    lines = [command(name, graph) for name, graph in exportable.graphs.items()]
    script = folder / SCRIPT
    script.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    script.chmod(0o755)
    if shutil.which("trtexec") is None:
        return
    done = subprocess.run([script], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise ValueError(f"trtexec cannot build an engine: {' '.join(last)}; use format=onnx")


TENSORRT = replace(ONNX, finish=finish)
