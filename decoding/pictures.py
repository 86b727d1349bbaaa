"""What pictures look like that are not as they should be, in words."""

from __future__ import annotations

import numpy as np

Shape = tuple[int, ...]


def picture_problem(shape: Shape, dtype: np.dtype, expected: Shape) -> str:
    """What keeps an array from being the picture that is expected; empty if nothing does.

    Args:
        shape: The array's shape, without an axis of rows.
        dtype: Type of its numbers.
        expected: Height, width and 3.

    Returns:
        The end of a sentence whose subject is the picture: expected, found, and what to do.
    """
    if shape == expected and dtype == np.uint8:
        return ""
    return (
        f"must have shape {expected} and type uint8, got {shape} and {dtype}: "
        f"{_fault(shape, expected) or 'give bytes from 0 to 255, not scaled'}"
    )


def _fault(shape: Shape, expected: Shape) -> str:
    """What is wrong with the shape, and what to do about it; empty if it is right."""
    height, width, _ = expected
    if len(shape) == 2 or (len(shape) == 3 and 1 in (shape[0], shape[2])):
        return "it is grey; give red, green and blue"
    if len(shape) != 3:
        return "give height, width and 3 channels"
    if shape[2] == 4:
        return "it has four channels; leave out the last, alpha or depth"
    if shape[2] != 3 and shape[0] in (3, 4):
        return "its channels come first; move them to the end"
    if shape[2] != 3:
        return "give red, green and blue, channels last"
    if shape == (width, height, 3) != expected:
        return "its sides are swapped; height comes before width"
    return "" if shape == expected else f"resize it to {height} x {width}"
