"""Messages as bytes: msgpack with numpy arrays, byte for byte as openpi's clients write them.

An array is a map with the binary keys ``__ndarray__``, ``data`` (C order), ``dtype`` and ``shape``,
a numpy scalar one with ``__npgeneric__``, ``data`` and ``dtype``. What comes from the wire is
looked at before anything is built from it: nothing but numbers and texts ever becomes an array.
"""

from __future__ import annotations

import math
import re
from typing import Any, cast

import numpy as np

from ..plumbing.extras import require

_ARRAY, _SCALAR = b"__ndarray__", b"__npgeneric__"
_DATA, _DTYPE, _SHAPE = b"data", b"dtype", b"shape"
# Booleans, integers, floats, bytes and texts. An array of objects would take bytes for addresses.
_KINDS = "biufSU"
_DTYPES = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5})")
_MAX_DIMS = 32
# Entries of lists and maps in a message. An array has as many as it likes; here each is an object,
# and 16 MB of empty lists would take a gigabyte, and seconds in which no robot is answered.
MAX_ENTRIES = 1 << 17
# What the data of a scalar may be. A number would be taken for the length of bytes.
_SCALAR_DATA = {"S": bytes, "U": str}


def pack(message: Any) -> bytes:
    """Write plain data with arrays, numpy scalars among it, as bytes.

    Raises:
        ValueError: For anything else, an array of objects for example.
    """
    packed: bytes = require("msgpack", "serve").packb(message, default=_encoded)
    return packed


def unpack(data: bytes) -> Any:
    """Read plain data with arrays, which share the memory of `data` and cannot be written to.

    Raises:
        ValueError: If it is no such data.
    """
    count = _Count()
    try:
        return require("msgpack", "serve").unpackb(
            data, object_hook=count.map, list_hook=count.list, ext_hook=_refused,
            max_array_len=MAX_ENTRIES, max_map_len=MAX_ENTRIES,
        )  # fmt: skip
    except (ValueError, OverflowError) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"not a message of plain data and arrays: {reason}") from error


def _encoded(value: Any) -> dict[bytes, Any]:
    is_array, is_scalar = (issubclass(type(value), one) for one in (np.ndarray, np.generic))
    if (is_array or is_scalar) and value.dtype.kind in _KINDS:
        dtype = value.dtype.str
        if is_scalar:
            return {_SCALAR: True, _DATA: value.item(), _DTYPE: dtype}
        return {_ARRAY: True, _DATA: value.tobytes(), _DTYPE: dtype, _SHAPE: value.shape}
    raise ValueError(
        f"{type(value).__name__} {value!r:.80} cannot be sent; send numbers, texts, lists, maps "
        "and arrays of numbers or texts"
    )


class _Count:
    """Decodes the maps of one message, and counts what is in its lists and maps."""

    def __init__(self) -> None:
        self._num = 0

    def map(self, found: dict[Any, Any]) -> Any:
        self._add(len(found))
        return _decoded(found)

    def list(self, found: Any) -> Any:
        self._add(len(found))
        return found

    def _add(self, num: int) -> None:
        self._num += 1 + num
        if self._num > MAX_ENTRIES:
            raise ValueError(f"more than {MAX_ENTRIES} entries of lists and maps; send arrays")


def _decoded(found: dict[Any, Any]) -> Any:
    if _ARRAY in found:
        return _array(found.get(_DATA), _dtype(found), found.get(_SHAPE))
    if _SCALAR in found:
        data, dtype = found.get(_DATA), _dtype(found)
        if not isinstance(data, _SCALAR_DATA.get(dtype.kind, (bool, int, float))):
            raise ValueError(f"a scalar's data is {type(data).__name__}, its type {dtype.name}")
        return dtype.type(data)
    return found


def _dtype(found: dict[Any, Any]) -> Any:
    name = found.get(_DTYPE)
    if not isinstance(name, str) or not _DTYPES.fullmatch(name):
        raise ValueError(f"an array's dtype is {name!r:.40}, not one of numbers or text")
    return np.dtype(name)


def _array(data: Any, dtype: Any, shape: Any) -> np.ndarray:
    if not isinstance(shape, list) or len(cast("list[Any]", shape)) > _MAX_DIMS:
        raise ValueError(f"an array's shape is {shape!r:.80}, not a list of few sizes")
    sizes = cast("list[Any]", shape)
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise ValueError(f"an array's shape is {sizes!r:.80}, not of sizes 0, 1, 2, …")
    num_bytes = math.prod(sizes) * dtype.itemsize
    if not isinstance(data, bytes) or len(data) != num_bytes:
        got = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise ValueError(
            f"an array of shape {sizes!r:.80} and {dtype.name} has {num_bytes} bytes, got {got}"
        )
    return np.ndarray(tuple(sizes), dtype, data)


def _refused(code: int, data: bytes) -> Any:
    raise ValueError(f"an extension of type {code} with {len(data)} bytes")
