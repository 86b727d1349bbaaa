"""Digests of arrays, block by block, so that memory-mapped ones need no memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from .episodes import blocks


def arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Digest of names, types, shapes and contents."""
    digest = hashlib.blake2b(digest_size=16)
    for key, array in sorted(arrays.items()):
        digest.update(f"{key} {array.dtype} {array.shape}\n".encode())
        row_bytes = array.itemsize * int(np.prod(array.shape[1:]))
        for rows in blocks(len(array), row_bytes):
            digest.update(np.ascontiguousarray(array[rows]).tobytes())
    return digest.hexdigest()
