"""Statistics of features as LeRobotDataset v3.0 stores them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ...episodes import blocks

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
_STATISTICS_IMAGES, _STATISTICS_FRAMES = 200, 2**18


def statistics(columns: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Mean, deviation, range and quantiles per feature; quantiles from evenly spaced frames.

    Images are, as LeRobot has it, of the range 0 to 1 with one number per channel, of shape
    (C, 1, 1), and all their numbers are from few frames.
    """
    result = {}
    for feature, array in columns.items():
        image = array.dtype == np.uint8 and array.ndim == 4
        stride = 1 + (len(array) - 1) // (_STATISTICS_IMAGES if image else _STATISTICS_FRAMES)
        sample = np.asarray(array[::stride], np.float64)
        shape = array.shape[1:] or (1,)
        if image:
            sample, shape = sample.reshape(-1, array.shape[-1]) / 255, (array.shape[-1], 1, 1)
        sample = sample.reshape(len(sample), -1)
        numbers = _moments([sample] if image else _blocks(array))
        quantiles = np.quantile(sample, list(QUANTILES.values()), axis=0)
        numbers |= dict(zip(QUANTILES, quantiles, strict=True))
        result[feature] = {name: n.reshape(shape).tolist() for name, n in numbers.items()}
        result[feature]["count"] = [len(array[::stride]) if image else len(array)]
    return result


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    for rows in blocks(len(array), array.itemsize * int(np.prod(array.shape[1:]))):
        yield np.asarray(array[rows], np.float64).reshape(rows.stop - rows.start, -1)


def _moments(parts: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Range, mean and standard deviation of rows that come in parts (Chan's update)."""
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    low, high = np.full(1, np.inf), np.full(1, -np.inf)
    for part in parts:
        total = count + len(part)
        difference = part.mean(axis=0) - mean
        squares = squares + part.var(axis=0) * len(part)
        squares = squares + difference**2 * count * len(part) / total
        mean = mean + difference * len(part) / total
        low, high = np.minimum(low, part.min(axis=0)), np.maximum(high, part.max(axis=0))
        count = total
    return {"min": low, "max": high, "mean": mean, "std": np.sqrt(squares / count)}


def merged_statistics(
    one: Mapping[str, Mapping[str, Any]], other: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Statistics of the frames of both; quantiles, as LeRobot has it, are weighted means."""
    return {feature: _merged(one[feature], values) for feature, values in other.items()}


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    pair = [{name: np.asarray(n, np.float64) for name, n in part.items()} for part in (one, other)]
    counts = [float(part["count"].reshape(-1)[0]) for part in pair]
    share = counts[1] / sum(counts)
    mixed = {name: (1 - share) * pair[0][name] + share * pair[1][name] for name in pair[1]}
    variance = (1 - share) * pair[0]["std"] ** 2 + share * pair[1]["std"] ** 2
    variance = variance + share * (1 - share) * (pair[0]["mean"] - pair[1]["mean"]) ** 2
    mixed |= {
        "min": np.minimum(pair[0]["min"], pair[1]["min"]),
        "max": np.maximum(pair[0]["max"], pair[1]["max"]),
        "std": np.sqrt(variance),
    }
    result = {name: numbers.tolist() for name, numbers in mixed.items()}
    result["count"] = [int(sum(counts))]
    return result
