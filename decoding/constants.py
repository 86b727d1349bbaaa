"""Tables of numbers, on whichever device asks for them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


class Constants:
    """Arrays as tensors, copied to each device once.

    A copy for every use would make the host wait for everything that the device has still to do.

    Args:
        arrays: Arrays by name; on the CPU tensors share their memory.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = dict(arrays)
        self._copies: dict[tuple[str, torch.device], Tensor] = {}

    def at(self, name: str, device: torch.device) -> Tensor:
        """One of the arrays, as a tensor on `device`; not to be changed."""
        if device.type == "cpu":
            return torch.as_tensor(self._arrays[name])
        if (name, device) not in self._copies:
            self._copies[name, device] = torch.as_tensor(self._arrays[name]).to(device)
        return self._copies[name, device]
