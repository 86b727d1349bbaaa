"""Decoders whose forwards are recorded whole: with argmax, comparison and who is finished.

A decoder that asks for logits and looks at the tokens waits for the GPU each time. Here forward,
argmax and `jacobi.advanced` are one launch; one number tells the host whether another is wanted,
and none does where it is known before.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from ...decoding.jacobi import UNTIL_CONVERGED, ExitRule, Progress, Stop, advanced, shifted
from ...decoding.token_model import DecodedTokens
from .graphs import GraphPasses
from .host import Host
from .passes import Layout
from .session import Prompt, begin_tokens


class GraphDecoder(GraphPasses):
    """`Passes`: steps of decoders on memory of their own are recorded as well.

    Args:
        host: Runs where its weights are, in their type.
        values: Action value of every token, shape (V,), float64, for the exit rule.
        layout: Sizes.
        rows: Number of rows.
        choices: Further arguments of `GraphPasses`.
    """

    def __init__(
        self, host: Host, values: Tensor, layout: Layout, rows: int, **choices: Any
    ) -> None:
        super().__init__(host, layout, rows, **choices)
        with torch.inference_mode(mode=False):
            guess = torch.zeros(rows, layout.num_tokens, dtype=torch.int64, device=self.device)
            self._begin = begin_tokens(host, rows, self.device)
            self._values = values.to(self.device)
            self._progress = _cloned(Progress.of(guess))
            self._stop = Stop.of(UNTIL_CONVERGED, guess, None)
            self._num_confirming = guess.new_zeros(())
            self._newest, self._drafted = guess.new_zeros(rows, 1), guess.clone()
            self._place = guess.new_zeros(1)  # where the token that follows the newest one stands
            self._all_finished = guess.new_zeros((), dtype=torch.bool)
            pinned = self.device.type == "cuda"
            self._heard = torch.zeros((), dtype=torch.bool, pin_memory=pinned)

    def greedy(self) -> DecodedTokens:
        """See `Passes`."""
        self.prepare("next", self._next)
        num_rows, num_tokens = self._drafted.shape
        self._newest.copy_(self._begin)
        self._place.zero_()
        for _ in range(num_tokens):
            self.run("next")
        count = torch.full((num_rows,), num_tokens, device=self.device)
        return DecodedTokens(self._drafted.clone(), count, count)

    def jacobi(
        self,
        guess: Tensor,
        exit_rule: ExitRule,
        min_verified: Tensor,
        num_confirming: int,
        prompt: Prompt | None,
    ) -> DecodedTokens:
        """See `Passes`."""
        num_tokens = guess.shape[1]
        max_calls, max_move = exit_rule.numbers(num_tokens)
        most = num_tokens + 1 if bool(min_verified.any()) else max_calls
        # Recording runs a step a few times: before there is anything that it could spoil.
        if prompt is not None:
            self.prepare("read_and_refine", self._read_and_refine)
            self.take(prompt)
        if prompt is None or most > 1:
            self.prepare("refine", self._refine)
        for tensor in _tensors(self._progress).values():
            tensor.zero_()
        self._progress.tokens.copy_(guess)
        self._stop.max_calls.fill_(max_calls)
        self._stop.max_move.fill_(max_move)
        self._stop.min_verified.copy_(min_verified)
        self._num_confirming.fill_(num_confirming)
        self.run("refine" if prompt is None else "read_and_refine")
        for _ in range(most - 1):
            if self._hear_whether_finished():
                break
            self.run("refine")
        return _cloned(self._progress).result()

    def _hear_whether_finished(self) -> bool:
        """Wait for the newest forward, and read one number."""
        self._heard.copy_(self._all_finished, non_blocking=True)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        return bool(self._heard)

    def _next(self) -> None:
        following = self.token_logits(self._newest, self._place).argmax(dim=-1)  # (b, 1)
        self._drafted.index_copy_(1, self._place, following)
        self._newest.copy_(following)
        # Round and round, so that no number of runs leads out of the block.
        self._place.add_(1).remainder_(self._drafted.shape[1])

    def _refine(self) -> None:
        self._advance(self.block_logits(shifted(self._begin, self._progress.tokens)))

    def _read_and_refine(self) -> None:
        self._advance(self.prompt_logits(shifted(self._begin, self._progress.tokens)))

    def _advance(self, logits: Tensor) -> None:
        predicted = logits.argmax(dim=-1)  # (b, n)
        progress = advanced(
            self._progress, predicted, self._stop, self._num_confirming, self._values_of
        )
        self._all_finished.copy_(progress.finished.all())
        _copy(progress, self._progress)

    def _values_of(self, tokens: Tensor) -> Tensor:
        return self._values[tokens]


def _cloned(progress: Progress) -> Progress:
    return replace(progress, **{name: one.clone() for name, one in _tensors(progress).items()})


def _copy(source: Progress, target: Progress) -> None:
    """Write all numbers of one progress over those of another."""
    for name, tensor in _tensors(target).items():
        tensor.copy_(getattr(source, name))


def _tensors(progress: Progress) -> dict[str, Tensor]:
    return {field.name: getattr(progress, field.name) for field in fields(progress)}
