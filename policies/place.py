"""Where networks run: devices by name, and models moved there whole."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ..decoding.plumbing.devices import CPU, check_device


def find_device(name: str) -> torch.device:
    """The device of that name: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        ValueError: If there is no such name, or no such device on this machine.
    """
    check_device(name)
    device = torch.device(name)
    if name == CPU:
        return device
    if not torch.cuda.is_available():
        raise ValueError(
            f"device {name!r} needs an NVIDIA GPU that PyTorch can use, and none was found; choose "
            "device=cpu, or install a PyTorch that was built for CUDA"
        )
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise ValueError(
            f"device {name!r} is not there: this machine's GPUs are cuda:0 to cuda:{count - 1}"
        )
    return device


def moved(model: Any, device: torch.device) -> Any:
    """A model whose weights are all on `device`: the model itself where they are, else a copy.

    Policies that run the model keep it as it is.

    Raises:
        ValueError: If it is no model of PyTorch's, but one that another program places itself.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"device {str(device)!r} cannot be chosen for a policy that LeRobot runs itself; its "
            "own config.json says where"
        )
    tensors = list(chain(model.parameters(), model.buffers()))
    if all(_is_at(one, device) for one in tensors):
        return model
    # Copied right to where they go: a second copy of a large model may not fit beside the first.
    memo: dict[int, Any] = {id(one): _moved(one, device) for one in tensors}
    return copy.deepcopy(model, memo)


def rounded(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A model whose parameters are all of a type: the model itself where they are, else a copy.

    What it keeps beside them, such as the frequencies of rotary positions, has all its digits.
    """
    parameters = list(model.parameters())
    if all(one.dtype == dtype for one in parameters):
        return model
    memo: dict[int, Any] = {
        id(one): nn.Parameter(one.detach().to(dtype), requires_grad=one.requires_grad)
        for one in parameters
    }
    return copy.deepcopy(model, memo)


def place_of(model: nn.Module) -> torch.device:
    """Where a module's weights are; the CPU for one without any."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device(CPU) if first is None else first.device


def _is_at(one: Tensor, device: torch.device) -> bool:
    # "cuda" is the current GPU, whichever that is; a tensor always says which.
    return one.device.type == device.type and device.index in (None, one.device.index)


def _moved(one: Tensor, device: torch.device) -> Tensor:
    there = one.detach().to(device)
    if isinstance(one, nn.Parameter):
        return nn.Parameter(there, requires_grad=one.requires_grad)
    return there
