"""Instructions as observations: UTF-8 text in an array of fixed size, padded with zeros.

Observations are numpy arrays, so this is how a sentence travels: an environment or a robot's
operator puts it into a frame under `INSTRUCTION_KEY`, executors and data sets carry it like any
other key, and a policy that understands language reads it. It may change within an episode, and
nobody but the policy needs to know a vocabulary.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INSTRUCTION_KEY = "observation.instruction"
INSTRUCTION_BYTES = 128


def encode_instruction(text: str, num_bytes: int = INSTRUCTION_BYTES) -> NDArray[np.uint8]:
    """Write `text` into an array of shape (num_bytes,), uint8.

    Raises:
        ValueError: If the text is empty, holds a zero character, or is too long.
    """
    encoded = text.encode()
    if not text.strip() or 0 in encoded:
        raise ValueError(f"an instruction needs text without zero characters, got {text!r}")
    if len(encoded) > num_bytes:
        raise ValueError(
            f"instruction of {len(encoded)} bytes is longer than the {num_bytes} that an "
            f"observation holds; shorten {text!r}"
        )
    padded = np.zeros(num_bytes, np.uint8)
    padded[: len(encoded)] = list(encoded)
    return padded


def decode_instruction(array: np.ndarray) -> str:
    """Read the text of an array of shape (num_bytes,) whose values are bytes, of any dtype.

    Raises:
        ValueError: If it holds no text.
    """
    values = array.astype(np.uint8)
    # An executor's history is float32, which holds every byte exactly.
    if not (values == array).all():
        raise ValueError(f"{INSTRUCTION_KEY} must hold bytes 0 to 255, got {array}")
    try:
        text = values.tobytes().rstrip(b"\0").decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{INSTRUCTION_KEY} is not UTF-8 text: {error}") from error
    if not text.strip() or "\0" in text:
        raise ValueError(
            f"{INSTRUCTION_KEY} holds no instruction; write one with encode_instruction(text)"
        )
    return text
