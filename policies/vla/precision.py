"""Precisions of token policies: fewer digits, and how many of the tokens are still the same.

``bf16`` and ``fp16`` hold weights and passes in that type; sums of normalisations, softmax and
rotary positions stay float32. ``tf32`` leaves the weights alone and lets a GPU's products have its
10 bits. What fewer digits do to a token is all or nothing: where two logits nearly tie the other
one wins, and behind it everything may be different. So no bound on the logits says whether tokens
are the same, and their share is counted instead, see `TokenComparison`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ...decoding import ObservationSpec
from ...decoding.example_frames import random_frames
from ...decoding.token_model import DecodedTokens
from ..place import rounded
from ..programs.engines.arithmetic import arithmetic
from ..programs.engines.engine import PRECISIONS, find_obstacle
from .model import VlaModel

if TYPE_CHECKING:
    from .policy import VlaPolicy

EXACT = PRECISIONS[0]
_ENGINES = ("eager", "cuda-graph")
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TokenComparison:
    """Counts how many tokens of a policy are those of eager PyTorch with the stored weights.

    Every block is decoded once more from the same observation and guess.

    Args:
        policy: What is held against its `reference`.
        limit: Blocks after which nothing more is decoded twice.

    Attributes:
        num_tokens: Tokens that were compared.
        num_equal: Those that are the same.
    """

    def __init__(self, policy: VlaPolicy, limit: int = 256) -> None:
        self._reference, self._left = policy.reference(), limit
        self.num_tokens = self.num_equal = 0

    @property
    def share(self) -> float:
        """Share of equal tokens; NaN before the first."""
        return self.num_equal / self.num_tokens if self.num_tokens else float("nan")

    @property
    def is_over(self) -> bool:
        """Whether nothing more is decoded twice."""
        return self._left <= 0

    def take(
        self,
        frames: dict[str, np.ndarray],
        guess: np.ndarray,
        min_verified: np.ndarray,
        decoded: DecodedTokens,
    ) -> None:
        """Look at what was decoded; arguments as of `VlaPolicy.decode`, and its result."""
        if self.is_over:
            return
        expected = self._reference.decode(frames, guess, min_verified).tokens
        self._left -= len(guess)
        self.num_tokens += expected.numel()
        self.num_equal += int((expected == decoded.tokens.to(expected.device)).sum())


def split_engine(engine: str) -> tuple[str, str]:
    """Name of the engine that runs the passes, and their precision."""
    for precision in PRECISIONS[1:]:
        name = engine.removesuffix(f"-{precision}")
        if name != engine and name in _ENGINES:
            return name, precision
    return engine, EXACT


def in_precision(model: VlaModel, engine: str) -> tuple[VlaModel, float]:
    """The model in an engine's precision, and the largest difference of its logits on an example.

    Raises:
        ValueError: If this machine or the weights' device does not have the precision, or the
            host's numbers are too large for it.
    """
    _, precision = split_engine(engine)
    if precision == EXACT:
        return model, 0.0
    if obstacle := find_obstacle(engine):
        raise obstacle
    if precision == "tf32" and model.device.type != "cuda":
        raise ValueError(
            f"precision tf32 is a GPU's, these weights are on {str(model.device)!r}; choose "
            "device=cuda, or precision=float32"
        )
    found = model
    if precision in _TYPES:
        copied = rounded(model, _TYPES[precision])
        assert isinstance(copied, VlaModel)
        found = copied
    exact, other = _logits(model, tf32=False), _logits(found, tf32=precision == "tf32")
    if not bool(other.isfinite().all()):
        raise ValueError(
            f"precision {precision} cannot hold the numbers of this host: its logits are not "
            "finite; choose precision=bf16, which has float32's range, or float32"
        )
    return found, float((exact - other).abs().max())


@torch.inference_mode()
def _logits(model: VlaModel, *, tf32: bool) -> torch.Tensor:
    """Logits of a whole block behind one example of an observation, float64."""
    (frames,) = random_frames(ObservationSpec(model.observation_shapes, num_steps=1), 1)
    begin = model.begin(1)
    block = torch.cat([begin, begin.new_zeros(1, model.action_tokenizer.num_tokens - 1)], dim=1)
    with arithmetic(model.device, tf32):
        return model.token_model(model.prompt(frames), cached=False).feed(block).double()
