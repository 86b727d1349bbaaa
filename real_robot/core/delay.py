"""How long inference takes: a quantile of the recent past."""

from __future__ import annotations

from collections import deque

import numpy as np


class DelayEstimate:
    """Sliding quantile of delays; a maximum would remember one hiccup for the whole run.

    Args:
        initial: Answer before anything was measured [s].
        window: Number of recent delays.
        quantile: Which share of them the answer covers.
    """

    def __init__(self, initial: float, window: int = 50, quantile: float = 0.9) -> None:
        if not (initial >= 0 and window >= 1 and 0 < quantile <= 1):
            raise ValueError(
                "a delay estimate needs initial >= 0, window >= 1 and quantile in (0, 1], got "
                f"{initial}, {window} and {quantile}"
            )
        self._initial, self._quantile = initial, quantile
        self._recent: deque[float] = deque(maxlen=window)

    def add(self, delay: float) -> None:
        """Take in a measured delay [s].

        Raises:
            ValueError: If it is negative or not finite.
        """
        if not 0 <= delay < np.inf:
            raise ValueError(f"a delay must be 0 s or more and finite, got {delay}")
        self._recent.append(delay)

    @property
    def value(self) -> float:
        """Delay to plan for [s]."""
        if not self._recent:
            return self._initial
        return float(np.quantile(self._recent, self._quantile, method="higher"))
