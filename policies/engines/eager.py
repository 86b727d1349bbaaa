"""The reference engine: plain PyTorch."""

from __future__ import annotations

import numpy as np
import torch

from ..program import Encode, ReverseProgram, ReverseStep


class EagerEngine:
    """Runs a reverse program with PyTorch modules as they are, wherever the model is.

    Args:
        program: What to run.
    """

    def __init__(self, program: ReverseProgram) -> None:
        self.parity = 0.0
        self._program = program
        self._device = next(program.model.parameters()).device
        self._encode = Encode(program.model)
        self._step = ReverseStep(program.model)

    @torch.inference_mode()
    def __call__(
        self, observation: np.ndarray, x: np.ndarray, noise: np.ndarray | None = None
    ) -> np.ndarray:
        """Run all calls; see `Engine`."""
        frames, start = self._tensor(observation), self._tensor(x)
        draws = None if noise is None else self._tensor(noise)
        result = self._program.run(self._encode, self._step, frames, start, draws)
        return result.cpu().numpy()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)
