"""Actions on their way into the network and back out of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..normalizer import Normalizer
from ..programs.program import Port
from .rotations import (
    ANGLES,
    COLUMNS,
    DecodeRotations,
    check_rotations,
    encode_rotations,
    into_bounds,
    replace_parts,
)


class ActionNormalizer(Normalizer):
    """Maps physical actions (..., D) to the network's (..., N) and back.

    Axis-angle triples [rad] become six numbers, which are not scaled, see `rotations`; everything
    else is ``x * scale + offset``.

    Args:
        action_dim: Action size D.
        rotations: First index of each axis-angle triple.

    Raises:
        ValueError: If there is no such triple among the actions.
    """

    def __init__(self, action_dim: int, rotations: Sequence[int] = ()) -> None:
        check_rotations(rotations, action_dim)
        super().__init__(action_dim + len(rotations) * (COLUMNS - ANGLES))
        self.action_dim, self.rotations = action_dim, tuple(rotations)
        self.decode = DecodeRotations(rotations)

    def forward(self, x: Tensor) -> Tensor:
        """Actions (..., D) in the network's units, (..., N)."""
        return super().forward(encode_rotations(x, self.rotations))

    def inverse(self, x: Tensor) -> Tensor:
        """The network's (..., N) as actions (..., D)."""
        return self.decode(super().inverse(x))

    def scale_like(self, fitted: Normalizer) -> None:
        """Scale as `fitted` to actions (T, D), except for rotations."""
        for own, one, neutral in (
            (self.scale, fitted.scale, 1.0),
            (self.offset, fitted.offset, 0.0),
        ):
            spread = replace_parts(
                one, self.rotations, ANGLES, lambda x, fill=neutral: x.new_full((COLUMNS,), fill)
            )
            own.copy_(spread)


class Physical(nn.Module):
    """The network's window to the actions from the current step on, in physical units.

    Args:
        normalizer: That of the actions.
        num_past: Window slots before the current action, To - 1.
        low: Smallest admissible action, shape (D,), float32.
        high: Largest admissible action, shape (D,), float32.
    """

    low: Tensor
    high: Tensor
    gain: Tensor
    shift: Tensor

    def __init__(
        self, normalizer: ActionNormalizer, num_past: int, low: np.ndarray, high: np.ndarray
    ) -> None:
        super().__init__()
        self.num_past, self.decode = num_past, normalizer.decode
        scale, offset = normalizer.scale, normalizer.offset
        self.register_buffer("low", torch.from_numpy(low).to(scale.device))
        self.register_buffer("high", torch.from_numpy(high).to(scale.device))
        self.register_buffer("gain", 1 / scale)
        self.register_buffer("shift", -offset / scale)
        # Where the bounds let every rotation be written with an angle of at most pi, it is.
        self.narrow = [
            first
            for first in normalizer.rotations
            if max(low[first : first + ANGLES].max(), -high[first : first + ANGLES].min()) > -_TURN
        ]

    def forward(self, window: Tensor) -> Tensor:
        """Map (R, H, N) to (R, H - To + 1, D), clipped; NaN stays NaN."""
        values = window[:, self.num_past :] * self.gain + self.shift  # (r, h - to + 1, n)
        actions = self.decode(values)  # (r, h - to + 1, d)
        for first in self.narrow:
            triple = slice(first, first + ANGLES)
            low, high = self.low[triple], self.high[triple]
            actions = replace_parts(
                actions, [first], ANGLES, lambda x, low=low, high=high: into_bounds(x, low, high)
            )
        clipped = torch.minimum(torch.maximum(actions, self.low), self.high)
        # Some runtimes' minimum drops NaN, which must not become an admissible action.
        return torch.where(actions.isnan(), actions, clipped)


_TURN = math.pi - 1e-3  # [rad] bounds of a rotation that are as good as pi


@dataclass(frozen=True, eq=False)
class ActionPort(Port):
    """Actions that a program returns.

    Attributes:
        rotations: First index of each axis-angle triple. Two vectors that are the same rotation do
            not differ: about pi, rounding decides which one comes out.
    """

    rotations: tuple[int, ...] = ()

    def difference(self, found: np.ndarray, expected: np.ndarray) -> float:
        """Largest difference in units of `scale`, of rotations in the entries of their matrices."""
        scale = replace_parts(
            torch.as_tensor(self.scale, dtype=torch.float32).expand(self.shape[-1]),
            self.rotations,
            ANGLES,
            lambda x: x.new_ones(COLUMNS),
        )
        one, two = (
            encode_rotations(torch.from_numpy(actions), self.rotations)
            for actions in (found, expected)
        )
        return float(((one - two).abs() / scale).max())
