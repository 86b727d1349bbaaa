"""Observations of nobody: for timing, warm-up, and comparing engines."""

from __future__ import annotations

import numpy as np

from .instruction import INSTRUCTION_KEY, encode_instruction
from .interface import ObservationSpec


def random_frames(
    spec: ObservationSpec, num: int, scale: float = 1.0
) -> list[dict[str, np.ndarray]]:
    """Frames of one robot, the same ones whenever they are asked for.

    Args:
        spec: What is observed; physical units are unknown.
        num: Number of frames.
        scale: Standard deviation of the numbers.

    Returns:
        Frames by key, shape (1, *shape) each: normal numbers, random bytes for pictures, and the
        instruction to wait.
    """
    generator = np.random.default_rng(0)

    def draw(key: str, shape: tuple[int, ...]) -> np.ndarray:
        if key == INSTRUCTION_KEY:
            return encode_instruction("wait", shape[0])[None].astype(spec.dtype(key))
        if key in spec.pictures:
            return generator.integers(0, 256, (1, *shape), np.uint8)
        return (scale * generator.standard_normal((1, *shape))).astype(np.float32)

    return [{key: draw(key, shape) for key, shape in spec.shapes.items()} for _ in range(num)]
