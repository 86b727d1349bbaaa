"""The formats that policies are exported to.

To add one: a module with a `Format`, and its line here; or, in a package of one's own, an entry
point of the group ``hotloop.export_formats``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ...decoding.plumbing.plugins import Registry
from .parts import Exportable

# Writes all graphs into a folder; returns what ``policy.json`` says of each graph, and of modules.
Write = Callable[[Exportable, Path], tuple[dict[str, Any], dict[str, Any]]]
# Computes a graph: its name, and inputs of shape (R, ...) each.
Compute = Callable[[str, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        write: Writes the graphs.
        load: Called with a folder that is complete; computes its graphs.
        runtime: What runs them, as ``policy.json`` names it.
        packages: Packages that writing needs.
        programs: Modules of hotloop that run such a folder alone, by their names in it.
        finish: Called with the folder at the end, with what only the format knows to do.
    """

    write: Write
    load: Callable[[Path], Compute]
    runtime: str
    packages: tuple[str, ...]
    programs: tuple[tuple[str, ModuleType], ...] = ()
    finish: Callable[[Exportable, Path], None] = lambda exportable, folder: None

    def refuse_missing(self, name: str) -> None:
        """Raise ImportError if a package is missing; the message is the command to type."""
        missing = [package for package in self.packages if find_spec(package) is None]
        if missing:
            raise ImportError(
                f"format {name!r} needs {', '.join(missing)}; install with "
                "`pip install 'hotloop[runtime]'`"
            )


FORMATS: Registry[Format] = Registry(
    "hotloop.export_formats",
    "export format",
    {
        "onnx": "onnx_files:ONNX",
        "openvino": "openvino_files:OPENVINO",
        "torch-export": "torch_files:TORCH_EXPORT",
        "tensorrt": "tensorrt_files:TENSORRT",
    },
    str(__package__),
)
