"""The reference engine: plain PyTorch."""

from __future__ import annotations

import torch

from ..program import Program
from .arithmetic import arithmetic
from .memory import Memory, allocate


class EagerEngine:
    """Runs a program with PyTorch modules as they are, wherever they are.

    Args:
        program: What to run.
    """

    tf32 = False

    def __init__(self, program: Program) -> None:
        self.parity = 0.0
        self._program = program
        self._device = program.device
        self._memories: dict[int, Memory] = {}

    @staticmethod
    def obstacle() -> Exception | None:
        """Nothing is lacking anywhere; see `Engine`."""
        return None

    def memory(self, rows: int) -> Memory:
        """Memory of a run; see `Engine`."""
        if rows not in self._memories:
            self._memories[rows] = self._make_memory(rows)
        return self._memories[rows]

    def _make_memory(self, rows: int) -> Memory:
        program, device = self._program, self._device
        inputs, outputs = allocate(program, rows)
        sources, targets = (
            {name: torch.from_numpy(array) for name, array in arrays.items()}
            for arrays in (inputs, outputs)
        )

        @torch.inference_mode()
        def run() -> None:
            with arithmetic(device, self.tf32):
                result = program.run({name: value.to(device) for name, value in sources.items()})
            for name, target in targets.items():
                target.copy_(result[name])

        return Memory(inputs, outputs, run)
