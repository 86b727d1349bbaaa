"""Instructions as observations: text goes into an array of fixed size and comes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.decoding.instruction import decode_instruction, encode_instruction


@given(st.text(min_size=1, max_size=30).filter(lambda text: text.strip() and "\0" not in text))
def test_text_survives_the_way_through_an_array(text: str) -> None:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:  # half a surrogate pair is no text
        return
    array = encode_instruction(text)
    assert (array.shape, array.dtype) == ((128,), np.uint8)
    assert decode_instruction(array) == text
    assert decode_instruction(array.astype(np.float32)) == text, "executors keep float32"
    assert bytes(array[: len(encoded)]) == encoded


def test_an_instruction_longer_than_the_array_is_refused() -> None:
    assert decode_instruction(encode_instruction("x" * 128)) == "x" * 128
    with pytest.raises(ValueError, match="instruction of 129 bytes is longer than the 128"):
        encode_instruction("x" * 129)


@pytest.mark.parametrize("text", ["", "  ", "a\0b"])
def test_an_instruction_says_something(text: str) -> None:
    with pytest.raises(ValueError, match="needs text without zero characters"):
        encode_instruction(text)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(128), "holds no instruction; write one with encode_instruction"),
        (np.full(128, 0.5), "must hold bytes 0 to 255"),
        (np.full(128, 300.0), "must hold bytes 0 to 255"),
        (np.full(128, 255), "is not UTF-8 text"),
        (np.array([65, 0, 66]), "holds no instruction"),
    ],
)
def test_arrays_that_hold_no_text_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_instruction(array)
