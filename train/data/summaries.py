"""Statistics of the columns of a dataset, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .columns import Column
from .pictures import as_pixels

if TYPE_CHECKING:
    from tqdm import tqdm


@dataclass(frozen=True)
class ColumnSummary:
    """Statistics of one column over its finite values; None where there are none.

    Attributes:
        name: Name of the column in the file.
        num_steps: Number of rows T.
        shape: Shape of one step.
        dtype: Element type in the file.
        minimum: Smallest value.
        maximum: Largest value.
        mean: Mean value.
        num_nan: Values that are NaN.
        num_inf: Values that are infinite.
    """

    name: str
    num_steps: int
    shape: tuple[int, ...]
    dtype: str
    minimum: float | None
    maximum: float | None
    mean: float | None
    num_nan: int
    num_inf: int


class Summarizer:
    """One pass over columns.

    Args:
        columns: What to read; pictures are decoded too.
        progress: Show a progress bar on stderr.

    Attributes:
        summaries: One for each column.
        ranges: Smallest and largest value of each number of a step, by column.
        problems: What cannot be decoded, one sentence for each column, and values that are none.
    """

    def __init__(self, columns: list[Column], progress: bool) -> None:
        from tqdm import tqdm

        self.problems: list[str] = []
        self.ranges: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        num_bytes = sum(column.num_steps * column.row_bytes for column in columns)
        with tqdm(total=num_bytes, unit="B", unit_scale=True, disable=not progress) as bar:
            self.summaries = [self._summarize(column, bar) for column in columns]

    def _summarize(self, column: Column, bar: tqdm) -> ColumnSummary:
        total, num_values, num_nan, num_inf, failures = 0.0, 0, 0, 0, []
        not_pixels = ""
        low, high = np.full(column.num_features, np.inf), np.full(column.num_features, -np.inf)
        for rows in () if column.faults else column.blocks():
            try:
                block = column.read(rows).reshape(-1, column.num_features)
            except ValueError as error:
                failures.append(str(error).removeprefix(f"{column.path}: "))
                continue
            bar.update(block.nbytes)
            finite = np.isfinite(block)
            not_pixels = not_pixels or _pixel_problem(column, block)
            num_nan += int(np.isnan(block).sum())
            num_inf += int(np.isinf(block).sum())
            numbers = block.astype(np.float64) if not finite.all() else block
            low = np.minimum(low, np.where(finite, numbers, np.inf).min(axis=0))
            high = np.maximum(high, np.where(finite, numbers, -np.inf).max(axis=0))
            total += float(np.where(finite, numbers, 0).sum(dtype=np.float64))
            num_values += int(finite.sum())
        self._tell(column, failures, num_nan, num_inf)
        self.problems += [not_pixels] if not_pixels else []
        if num_values:
            self.ranges[column.name] = (low, high)
        return ColumnSummary(
            name=column.name,
            num_steps=column.num_steps,
            shape=column.shape,
            dtype=str(column.array.dtype),
            minimum=float(low.min()) if num_values else None,
            maximum=float(high.max()) if num_values else None,
            mean=total / num_values if num_values else None,
            num_nan=num_nan,
            num_inf=num_inf,
        )

    def _tell(self, column: Column, failures: list[str], num_nan: int, num_inf: int) -> None:
        self.problems += column.faults
        if failures:
            more = f" (and {len(failures) - 1} more blocks)" if len(failures) > 1 else ""
            self.problems.append(failures[0] + more)
        if num_nan or num_inf:
            self.problems.append(
                f"column {column.name!r} holds {num_nan} NaN and {num_inf} infinite values"
            )


def _pixel_problem(column: Column, block: np.ndarray) -> str:
    """Why rows of a column of pictures cannot be read as bytes; empty if they can."""
    if column.picture_axes is None:
        return ""
    try:
        as_pixels(block.reshape(-1, *column.shape), column.picture_axes)
    except ValueError as error:
        return f"column {column.name!r} has the shape of pictures, {column.shape}; {error}"
    return ""
