"""Which columns are pictures, in which order their axes are, and their pixels as bytes.

A column of bytes (uint8) whose step has two or more axes holds pictures; of other numbers, only a
step with 3 or 4 channels beside two sides of `SMALLEST_SIDE` or more. Channels come last
(height, width, channels) or first; where both readings fit, last.
"""

from __future__ import annotations

import numpy as np

CHANNELS = (1, 3, 4)
SMALLEST_SIDE = 8  # of a picture that is not of bytes, and of a map


def picture_axes(shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, ...] | None:
    """Order in which a step's axes are height, width, channels; None if it is no picture.

    Args:
        shape: Shape of one step.
        dtype: Type of its numbers.

    Returns:
        Two axes for a picture without an axis of channels, which then has one.
    """
    if dtype.kind not in "iuf":
        return None
    is_bytes = dtype == np.uint8
    if is_bytes and len(shape) == 2 and min(shape) >= SMALLEST_SIDE:
        return (0, 1)
    if len(shape) != 3:
        return None
    channels, smallest = (CHANNELS, 1) if is_bytes else (CHANNELS[1:], SMALLEST_SIDE)
    for axes in ((0, 1, 2), (1, 2, 0)):
        height, width, last = (shape[axis] for axis in axes)
        if last in channels and min(height, width) >= smallest:
            return axes
    return None


def is_map(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether a step is a map of single numbers, such as depths [m], or bytes of many axes."""
    if dtype == np.uint8 and len(shape) > 1:
        return True
    sides = [size for size in shape if size != 1]
    return len(shape) >= 2 and len(sides) == 2 and min(sides) > SMALLEST_SIDE + 8


def as_pixels(block: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Pictures of any order of axes as bytes of shape (T, height, width, channels).

    Raises:
        ValueError: If a number is not a whole one of 0 to 255.
    """
    ordered = block.transpose(0, *(axis + 1 for axis in axes))
    if len(axes) == 2:
        ordered = ordered[..., None]
    if ordered.dtype == np.uint8:
        return ordered
    valid = (ordered >= 0) & (ordered <= 255)
    pixels = np.where(valid, ordered, 0).astype(np.uint8)
    if not valid.all() or not np.array_equal(pixels, ordered):
        raise ValueError(
            f"pixels must be whole numbers from 0 to 255, found {block.min():.6g} to "
            f"{block.max():.6g}{'; store them as 255 times that' if block.max() <= 1 else ''}"
        )
    return pixels
