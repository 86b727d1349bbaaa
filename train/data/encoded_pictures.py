"""Pictures that are kept as encoded files, PNG or JPEG, one per step."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from ...decoding.plumbing.extras import require


def decode_picture(encoded: bytes) -> np.ndarray:
    """Pixels as bytes, shape (height, width, channels).

    Raises:
        ValueError: If it is damaged or has pixels of more than a byte.
        ImportError: If Pillow is not installed.
    """
    image = require("PIL.Image", "lerobot")
    try:
        with image.open(io.BytesIO(encoded)) as opened:
            if opened.mode in ("P", "1", "CMYK", "YCbCr"):
                opened = opened.convert("RGB")
            pixels = np.asarray(opened)
    # Whatever Pillow's decoders raise on damaged bytes: errors of a dozen types.
    except Exception as error:
        raise ValueError(f"a picture cannot be decoded: {error}") from error
    if pixels.dtype != np.uint8:
        raise ValueError(f"a picture has {pixels.dtype} pixels, expected bytes")
    return pixels[..., None] if pixels.ndim == 2 else pixels


def decode_pictures(encoded: list[bytes], shape: tuple[int, ...]) -> np.ndarray:
    """Pictures of one shape, (n, height, width, channels); raise ValueError for another one."""
    out = np.empty((len(encoded), *shape), np.uint8)
    for index, one in enumerate(encoded):
        pixels = decode_picture(one)
        if pixels.shape != shape:
            raise ValueError(f"a picture has the shape {pixels.shape}, but the first one {shape}")
        out[index] = pixels
    return out


class EncodedPictures:
    """A dataset of HDF5 whose cells are encoded files, as an array of pictures.

    Args:
        dataset: Bytes of variable length, shape (T,), not empty.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.shape = (len(dataset), *decode_picture(dataset[0].tobytes()).shape)

    def __len__(self) -> int:
        """Number of pictures T."""
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Decode some pictures."""
        encoded = [cell.tobytes() for cell in self._dataset[rows]]
        return decode_pictures(encoded, self.shape[1:])


def opened(dataset: Any) -> Any:
    """A dataset of HDF5; one whose cells are encoded files decodes them as it is read."""
    import h5py

    is_bytes = h5py.check_vlen_dtype(dataset.dtype) == np.uint8
    return EncodedPictures(dataset) if is_bytes and dataset.ndim == 1 and len(dataset) else dataset
