"""Whether the times at which steps were recorded are those that a dataset declares."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .source import Cuts, DatasetFile

RATE_TOLERANCE = 0.05  # of the period, between the median of the steps and what is declared
GAP = 1.5  # periods; a longer step is one in which the recording missed something


def rate_faults(file: DatasetFile, cuts: Cuts) -> Iterator[str]:
    """What is wrong with the times of a dataset, if it has them.

    Args:
        file: Open dataset; its declared rate and its timestamps are compared.
        cuts: Its episodes.
    """
    times = file.timestamps()
    if times is None or not len(cuts.episode_ends) or cuts.episode_ends[-1] != len(times):
        return
    if not np.isfinite(times).all():
        yield "the timestamps hold NaN or infinite values"
        return
    steps = np.diff(times.astype(np.float64))
    inside = np.ones(len(steps), bool)
    inside[cuts.episode_ends[:-1] - 1] = False
    steps, first = steps[inside], np.flatnonzero(inside)
    if not len(steps):
        return
    if (steps <= 0).any():
        yield (
            f"time does not go on at step {first[np.argmax(steps <= 0)] + 1}: "
            f"{int((steps <= 0).sum())} timestamps are not later than the one before"
        )
        return
    median, rate = float(np.median(steps)), file.rate()
    period = 1 / rate if rate else median
    if abs(median - period) > RATE_TOLERANCE * period:
        yield (
            f"the declared rate is {rate:g} Hz ({period:.4g} s), but steps are {median:.4g} s "
            f"apart ({1 / median:.4g} Hz) by their timestamps"
        )
        period = median
    gaps = steps > GAP * period
    if gaps.any():
        yield (
            f"there are {int(gaps.sum())} gaps in time, the first before step "
            f"{first[np.argmax(gaps)] + 1}, the longest {steps.max():.4g} s where steps are "
            f"{period:.4g} s apart"
        )
