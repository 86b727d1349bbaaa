"""Decoders on an engine of the CPU, which look at tokens in NumPy.

A forward of a small host takes a fraction of a millisecond, and everything around it runs with
cold caches, so each operation of PyTorch there costs several microseconds.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...decoding.jacobi import ExitRule, Progress, Stop, advanced
from ...decoding.token_model import DecodedTokens
from .engine_passes import EnginePasses, EnginePrograms
from .session import Prompt


class EngineDecoder(EnginePasses):
    """`Passes` by one engine's programs.

    Args:
        programs: Programs of a prompt size.
        rows: Number of rows.
        values: Action value of every token, shape (V,), float64, for the exit rule.
    """

    def __init__(self, programs: EnginePrograms, rows: int, values: Tensor) -> None:
        super().__init__(programs, rows)
        self._begin, self._values = len(values), values.numpy()

    def greedy(self) -> DecodedTokens:
        """See `Passes`."""
        memory, size = self._behind("append"), self._size
        token, visible, past = (memory.inputs[name] for name in ("tokens", "visible", "past"))
        logits, new = memory.outputs["logits"], memory.outputs["new"]
        drafted = np.empty((self._rows, self._num_tokens), np.int64)
        token[...] = self._begin
        visible[:, size:] = 0
        for index in range(self._num_tokens):
            memory.run()
            past[..., size + index, :] = new[..., 0, :]
            visible[:, size + index] = 1
            token[...] = logits.argmax(-1)
            drafted[:, index] = token[:, 0]
        count = torch.full((self._rows,), self._num_tokens)
        return DecodedTokens(torch.from_numpy(drafted), count, count)

    def jacobi(
        self,
        guess: Tensor,
        exit_rule: ExitRule,
        min_verified: Tensor,
        num_confirming: int,
        prompt: Prompt | None,
    ) -> DecodedTokens:
        """See `Passes`."""
        stop = Stop(*exit_rule.numbers(self._num_tokens), min_verified.numpy())
        measure = self._values.__getitem__ if exit_rule.max_move is not None else None
        progress = Progress.of(guess.numpy())
        while not progress.finished.all():
            memory = self._behind("block") if prompt is None else self._take("read_block", prompt)
            block = memory.inputs["tokens"]
            block[:, 0], block[:, 1:] = self._begin, progress.tokens[:, :-1]
            memory.run()
            if prompt is not None:
                self._keep(memory)
                prompt = None
            predicted = memory.outputs["logits"].argmax(-1)
            progress = advanced(progress, predicted, stop, num_confirming, measure)
        return DecodedTokens(
            torch.from_numpy(progress.tokens),
            torch.from_numpy(progress.num_verified),
            torch.from_numpy(progress.num_calls),
        )
