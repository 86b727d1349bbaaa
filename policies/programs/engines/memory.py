"""Memory that never moves: where a program's inputs are written and its outputs appear.

A compiled network of this size takes a tenth of a millisecond, so what surrounds it counts. Every
array is made once per number of rows, and bound to the runtime where it can be.
"""

from __future__ import annotations

import numpy as np

from ....decoding.exported_runtime import Memory
from ..program import Program

__all__ = ["Memory", "allocate"]


def allocate(program: Program, rows: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Input and output arrays of a program."""
    inputs, outputs = (
        {name: np.zeros((rows, *port.shape), port.dtype) for name, port in ports.items()}
        for ports in (program.inputs, program.outputs)
    )
    return inputs, outputs
