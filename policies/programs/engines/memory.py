"""Memory that never moves: where a program's inputs are written and its outputs appear.

A compiled network of this size takes a tenth of a millisecond, so what surrounds it counts. Every
array is made once per number of rows, and bound to the runtime where it can be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..program import Program


@dataclass(frozen=True, eq=False)
class Memory:
    """The arrays of one number of rows.

    Attributes:
        inputs: Written by the caller, shape (R, ...) each.
        outputs: Overwritten by `run`, shape (R, ...) each.
        run: Executes the program once.
    """

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    run: Callable[[], None]


def allocate(program: Program, rows: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Input and output arrays of a program."""
    inputs, outputs = (
        {name: np.zeros((rows, *port.shape), port.dtype) for name, port in ports.items()}
        for ports in (program.inputs, program.outputs)
    )
    return inputs, outputs
