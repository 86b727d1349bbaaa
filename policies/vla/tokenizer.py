"""Actions as tokens: a fixed block per chunk, in a vocabulary of its own.

Token ids here are local, 0 to V - 1; where the block lies in a language model's vocabulary is the
host's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

NUM_BINS = 256
Count = TypeVar("Count", int, np.ndarray)


class EncodedActions(NamedTuple):
    """Tokens, shape (..., n), and how many values lay outside of what they can express."""

    tokens: np.ndarray
    num_clipped: int


class ActionTokenizer(Protocol):
    """Turns a chunk of m actions into n tokens and back; n does not depend on the actions."""

    @property
    def vocabulary_size(self) -> int:
        """Number of action tokens V."""
        ...

    @property
    def num_tokens(self) -> int:
        """Block size n."""
        ...

    def encode(self, actions: np.ndarray) -> EncodedActions:
        """Tokens of chunks in physical units, shape (..., m, D)."""
        ...

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """Chunks in physical units, shape (..., m, D), of blocks (..., n)."""
        ...

    def num_actions(self, num_verified: np.ndarray) -> np.ndarray:
        """Leading actions that so many leading tokens determine."""
        ...

    def tokens_for(self, num_actions: Count) -> Count:
        """Leading tokens that determine so many leading actions."""
        ...


@dataclass(frozen=True)
class BinStatistics:
    """What uniform bins need to know about a vector, as JSON-able numbers.

    Attributes:
        low: 1 % quantile of each dimension, physical units.
        high: 99 % quantile of each dimension, physical units.
        scaled: False for a dimension that is taken as it is, such as a gripper command that lies
            within [-1, 1] already.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    scaled: tuple[bool, ...]

    def __post_init__(self) -> None:
        """Reject statistics that could not scale anything."""
        if not len(self.low) == len(self.high) == len(self.scaled) > 0:
            raise ValueError(
                "bin statistics need as many low as high quantiles and flags, at least one; got "
                f"{len(self.low)}, {len(self.high)} and {len(self.scaled)}"
            )
        for index, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not (low <= high and np.isfinite([low, high]).all()):
                raise ValueError(
                    f"dimension {index}: the 1 % quantile must not be above the 99 % quantile, "
                    f"and both finite, got {low} and {high}"
                )

    @classmethod
    def fit(cls, values: np.ndarray, scaled: tuple[bool, ...] | None = None) -> BinStatistics:
        """Quantiles of `values`, shape (T, D); by default every dimension is scaled."""
        low, high = np.quantile(values.astype(np.float64), [0.01, 0.99], axis=0)
        flags = scaled or (True,) * values.shape[1]
        return cls(tuple(low.tolist()), tuple(high.tolist()), flags)


class UniformBins:
    """OpenVLA's action tokens: one per dimension, 256 uniform bins over [q01, q99].

    A value is scaled to [-1, 1] by its dimension's quantiles, clipped, and put between 256 edges;
    the id counts down from the top edge, so it falls as the value rises. There are 255 bins: id 0
    is the edge value 1 itself and decodes like id 1. A chunk is time-major: all dimensions of
    action 0, then of action 1.

    Args:
        statistics: Quantiles of the data.
        num_actions: Actions per chunk m.
    """

    vocabulary_size = NUM_BINS
    _EDGES = np.linspace(-1, 1, NUM_BINS)
    _CENTRES = (_EDGES[:-1] + _EDGES[1:]) / 2

    def __init__(self, statistics: BinStatistics, num_actions: int = 1) -> None:
        if num_actions < 1:
            raise ValueError(f"a chunk needs at least 1 action, got {num_actions}")
        self.statistics, self._num_actions = statistics, num_actions
        self._low, self._high = np.array(statistics.low), np.array(statistics.high)
        self._scaled = np.array(statistics.scaled)

    @property
    def size(self) -> int:
        """Dimensions per action D, which is also tokens per action."""
        return len(self._low)

    @property
    def num_tokens(self) -> int:
        """Block size n = m D."""
        return self._num_actions * self.size

    def encode(self, actions: np.ndarray) -> EncodedActions:
        """Tokens of chunks (..., m, D); values outside [q01, q99] are clipped and counted.

        Raises:
            ValueError: On another shape, or a value that is not finite.
        """
        if actions.shape[-2:] != (self._num_actions, self.size):
            raise ValueError(
                f"expected chunks of {self._num_actions} actions of {self.size} dimensions, got "
                f"shape {actions.shape}"
            )
        if not np.isfinite(actions).all():
            raise ValueError("actions must be finite to become tokens, found NaN or infinity")
        scaled = 2 * (actions - self._low) / (self._high - self._low + 1e-8) - 1
        values = np.where(self._scaled, scaled, actions)
        # The 1e-8 of OpenVLA leaves the quantiles themselves inside.
        num_clipped = int((np.abs(values) > 1).sum())
        above = self._EDGES.searchsorted(np.maximum(np.minimum(values, 1), -1), "right")
        tokens = NUM_BINS - above
        return EncodedActions(tokens.reshape(*actions.shape[:-2], self.num_tokens), num_clipped)

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """Chunks (..., m, D) of blocks (..., n): the centres of the tokens' bins."""
        values = self.normalised(tokens).reshape(*tokens.shape[:-1], self._num_actions, self.size)
        physical = 0.5 * (values + 1) * (self._high - self._low) + self._low
        return np.where(self._scaled, physical, values)

    def normalised(self, tokens: np.ndarray) -> np.ndarray:
        """Bin centres in [-1, 1], of the shape of `tokens`."""
        return self._CENTRES.take(NUM_BINS - 1 - tokens, mode="clip")

    def num_actions(self, num_verified: np.ndarray) -> np.ndarray:
        """Leading actions whose every token is among the first `num_verified`."""
        return num_verified // self.size

    def tokens_for(self, num_actions: Count) -> Count:
        """Leading tokens that hold so many leading actions."""
        return num_actions * self.size
