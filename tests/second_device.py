"""A second device on a machine that has none: numbers of the CPU, kept apart as a GPU keeps them.

Within `SecondDevice`, tensors that are moved to ``meta`` say that they are there and compute what
they would on the CPU; an operation that is given tensors of both devices raises what a GPU raises.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
_MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class Elsewhere(Tensor):
    """A tensor of the second device.

    Attributes:
        here: Its numbers, on the CPU.
    """

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> Elsewhere:
        return torch.Tensor._make_wrapper_subclass(  # pyright: ignore
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
        )

    def __init__(self, here: Tensor) -> None:
        self.here = here

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


class SecondDevice(TorchDispatchMode):
    """Makes the second device available.

    Attributes:
        num_operations: What it has computed so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_operations = 0
        make = torch.tensor

        def moved(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
            return make(*args, **kwargs).to(device)

        self._patches = (
            # PyTorch makes no views of wrapped tensors in inference mode,
            patch.object(torch._C, "_InferenceMode", lambda _: torch.no_grad()),
            # and moves what it makes of Python's numbers without telling anybody.
            patch.object(torch, "tensor", moved),
        )

    def __enter__(self) -> SecondDevice:
        for one in self._patches:
            one.start()
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        for one in self._patches:
            one.stop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = _compute(func, args, kwargs or {})
        self.num_operations += isinstance(found, Elsewhere)
        return found


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    there = [one for one in tensors if isinstance(one, Elsewhere)]
    # A number in a tensor may be anywhere, as with a GPU.
    foreign = [one for one in tensors if not isinstance(one, Elsewhere) and one.dim()]
    if there and foreign and func not in _MOVES:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {func} was given {DEVICE} and cpu"
        )
    chosen = kwargs.get("device")
    stays = bool(there) if chosen is None else torch.device(chosen).type == DEVICE.type
    if chosen is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    plain_args, plain_kwargs = tree_map(_here, args), tree_map(_here, kwargs)
    result = func(*plain_args, **plain_kwargs)
    if func._schema.is_mutable and result is not None and args and isinstance(args[0], Tensor):
        return args[0] if func._schema.name.split(".")[0].endswith("_") else result
    return tree_map(_there, result) if stays else result


def _here(value: Any) -> Any:
    return value.here if isinstance(value, Elsewhere) else value


def _there(value: Any) -> Any:
    return Elsewhere(value) if isinstance(value, Tensor) else value
