"""What a GPU rounds: PyTorch's switches for TensorFloat-32, set for as long as something runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def arithmetic(device: torch.device, tf32: bool) -> Iterator[None]:
    """Let products on a GPU be float32's, or TensorFloat-32's with its 10 bits.

    PyTorch by itself lets convolutions have the latter. On the CPU there is no choice.
    """
    if device.type != "cuda":
        yield
        return
    products = torch.backends.cuda.matmul
    before, products.allow_tf32 = products.allow_tf32, tf32
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
            yield
    finally:
        products.allow_tf32 = before
