"""Affine normalisation that lives in the policy's weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

# What varies by less is constant up to rounding: shares of the dimension's own magnitude (a few of
# the steps that float32 has there) and of what is usual among all dimensions.
ROUNDING = 2e-6
NEGLIGIBLE = 1e-12
BLOCK_ROWS = 2**16


class Normalizer(nn.Module):
    """Maps physical values x to ``x * scale + offset`` along the last dimension.

    Args:
        size: Number of features.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("offset", torch.zeros(size))

    @classmethod
    def fit(cls, values: np.ndarray, mode: str) -> Normalizer:
        """Fit to data of shape (T, size): min_max maps onto [-1, 1], z_score to unit variance.

        However small its unit makes a dimension's values, it is scaled like all the others. One
        that is constant is shifted to 0 and not scaled: dividing by a range of about zero would
        blow up the first value that differs.
        """
        if mode == "min_max":
            low, high = (
                np.asarray(end, np.float64) for end in (values.min(axis=0), values.max(axis=0))
            )
            centre, half = (low + high) / 2, (high - low) / 2
        elif mode == "z_score":
            centre = values.mean(axis=0, dtype=np.float64)
            # Block by block: the squares of a memory-mapped array need not fit into memory.
            starts = range(0, len(values), BLOCK_ROWS)
            blocks = (values[start : start + BLOCK_ROWS] - centre for start in starts)
            half = np.sqrt(sum((block**2).sum(axis=0) for block in blocks) / len(values))
        elif mode == "identity":
            centre, half = np.zeros(values.shape[1]), np.ones(values.shape[1])
        else:
            raise ValueError(
                f"normalisation must be 'min_max', 'z_score' or 'identity', got {mode!r}"
            )
        half = np.where(is_constant(np.asarray(centre), np.asarray(half)), 1.0, half)
        normalizer = cls(values.shape[1])
        normalizer.scale.copy_(torch.from_numpy(1 / half))
        normalizer.offset.copy_(torch.from_numpy(-centre / half))
        return normalizer

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x of shape (..., size)."""
        return x * self.scale + self.offset

    def inverse(self, x: Tensor) -> Tensor:
        """Return x of shape (..., size) to physical units."""
        return (x - self.offset) / self.scale


def is_constant(centre: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Which dimensions do not vary, up to rounding; shape (size,).

    Args:
        centre: Middle or mean of each dimension.
        half: Half its range, or its standard deviation.
    """
    usual = np.median(np.abs(centre) + half)
    return half <= np.maximum(ROUNDING * np.abs(centre), NEGLIGIBLE * usual)
