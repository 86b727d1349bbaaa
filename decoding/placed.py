"""Copies to a GPU that nobody waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

# Kinds of devices that fetch what is in page-locked memory by themselves.
_FETCHING = ("cuda",)


def placed(value: Any, device: torch.device) -> Any:
    """A tensor, or a batch with a ``to``, on `device`; a copy to a GPU is only begun.

    Copies stand in line before everything that is computed from then on, so neither this thread nor
    that of the caller waits for them; for that their source must be in page-locked memory.
    """
    if device.type not in _FETCHING:
        return value.to(device)
    with torch.cuda.device(device):  # a thread begins on the first GPU
        return _pinned(value).to(device, non_blocking=True)


def _pinned(value: Any) -> Any:
    """The same with every tensor in page-locked memory; what is in lists stays on the host."""
    if isinstance(value, Tensor):
        # An expanded tensor would be written to itself.
        return value.contiguous().pin_memory() if value.device.type == "cpu" else value
    if isinstance(value, Mapping):
        return {key: _pinned(one) for key, one in cast("Mapping[str, Any]", value).items()}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _pinned(getattr(value, field.name)) for field in fields(value)}
        return replace(value, **parts)
    return value
