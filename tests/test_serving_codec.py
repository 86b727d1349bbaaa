"""Messages of the policy server: openpi's bytes; only numbers and texts come from the wire."""

from __future__ import annotations

from contextlib import suppress

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

from hotloop.decoding.serving import codec


def test_an_array_has_openpis_bytes() -> None:
    """As its client wrote them; keys of the map are binary, in this order."""
    array = np.array([[1.0, 2.0]], np.float32)
    head = b"\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\x08" + array.tobytes()
    assert codec.pack(array) == head + b"\xc4\x05dtype\xa3<f4\xc4\x05shape\x92\x01\x02"
    scalar = b"\x83\xc4\x0e__npgeneric__\xc3\xc4\x04data\x05\xc4\x05dtype\xa3<i8"
    assert codec.pack(np.int64(5)) == scalar.replace(b"\x0e", bytes([len("__npgeneric__")]))


@given(
    arrays.arrays(
        some.sampled_from([np.bool_, np.uint8, np.int64, np.float32, np.float64, "U3", "S2"]),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
    )
)
def test_arrays_come_back_as_they_were_and_read_only(array) -> None:
    found = codec.unpack(codec.pack({"a": [array, 1, "b", None]}))["a"]
    assert (found[0].dtype, found[0].shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found[0], array)
    assert not found[0].flags.writeable or found[0].size == 0
    assert found[1:] == [1, "b", None]


def wire(dtype="<f4", shape=(1,), data=b"\0" * 4, **more) -> bytes:
    return msgpack.packb(
        {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape, **more}
    )


@pytest.mark.parametrize("dtype", ["|O", "O", "object", "<c8", "V4", "f4,O", "<M8[s]", "", 4, None])
def test_arrays_of_anything_but_numbers_and_texts_are_never_built(dtype) -> None:
    with pytest.raises(ValueError, match="dtype"):
        codec.unpack(wire(dtype, data=b"\x01" * 8))
    scalar = {b"__npgeneric__": True, b"data": 1, b"dtype": dtype}
    with pytest.raises(ValueError, match="dtype"):
        codec.unpack(msgpack.packb(scalar))


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (wire(shape=(2,)), "has 8 bytes, got 4 bytes"),
        (wire(shape=(-1,)), "not of sizes"),
        (wire(shape=(True,)), "not of sizes"),
        (wire(shape=(1.0,)), "not of sizes"),
        (wire(shape=None), "not a list"),
        (wire(shape=[1] * 40), "not a list of few"),
        (wire(shape=(2**63, 2**63), data=b""), "bytes, got 0 bytes"),
        (wire(shape=(0, 2**62), data=b""), "not a message"),
        (wire("<f8", (0,), data="text"), "has 0 bytes, got str"),
        (wire("S0", (1,), data=b""), "dtype is 'S0'"),
        (msgpack.packb({b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}), "not a message"),
        (msgpack.packb({b"__npgeneric__": True, b"data": [1], b"dtype": "|u1"}), "is list"),
        # numpy takes a number for how many bytes of memory are wanted.
        (msgpack.packb({b"__npgeneric__": True, b"data": 1 << 29, b"dtype": "S1"}), "is int"),
        (b"\x94" + (b"\xdd\x00\x00\x80\x00" + b"\x90" * (1 << 15)) * 4, "more than 131072"),
        (b"\xdd\x00\x02\x00\x01" + b"\x01" * ((1 << 17) + 1), "exceeds max_array_len"),
        (msgpack.packb(msgpack.ExtType(7, b"abc")), "extension of type 7"),
        (msgpack.packb({1: 2}), "not a message"),
        (b"\xdd\xff\xff\xff\xff", "not a message"),
        (b"\x91" * 5000, "not a message"),
        (msgpack.packb(1) + b"\x01", "not a message"),
        (b"\xa2\xff\xfe", "not a message"),
    ],
)
def test_malformed_messages_are_one_error(message, told) -> None:
    with pytest.raises(ValueError, match="not a message of plain data") as error:
        codec.unpack(message)
    assert told in str(error.value)


@given(some.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data) -> None:
    with suppress(ValueError):
        codec.unpack(data)


@pytest.mark.parametrize("value", [np.array([None]), np.array([1j]), {1, 2}, object(), 2**70])
def test_what_cannot_travel_is_named(value) -> None:
    with pytest.raises((ValueError, OverflowError)):
        codec.pack({"a": value})
