"""Layers as matrix products, in a chosen precision.

A convolution over a window of a few positions is one product of its weights with the windows laid
side by side. Libraries of convolutions are made for long inputs: on a GPU they take several times
as long. The products compute in the precision of their weights; all that is between them, sums and
normalisations above all, stays float32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..program import Program


class Product(nn.Module):
    """``x @ weight + bias`` for the last dimension, computed in the precision of the weight.

    Args:
        weight: Shape (in, out).
        bias: Shape (out,), in the precision of what goes in and out, or None.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), in the precision of `x`."""
        result = (x.to(self.weight.dtype) @ self.weight).to(x.dtype)
        return result if self.bias is None else result + self.bias


class LinearProduct(Product):
    """A linear layer.

    Args:
        layer: The layer.
        dtype: Precision of its product.
    """

    def __init__(self, layer: nn.Linear, dtype: torch.dtype) -> None:
        bias = None if layer.bias is None else layer.bias.detach()
        super().__init__(layer.weight.detach().t().to(dtype), bias)


class ConvolutionProduct(nn.Module):
    """A 1-D convolution as one product: windows (B, L, C k) with weights (C k, O).

    Args:
        layer: The convolution, see `is_product`.
        dtype: Precision of its product.
    """

    def __init__(self, layer: nn.Conv1d, dtype: torch.dtype) -> None:
        super().__init__()
        (self.size,), (self.stride,) = layer.kernel_size, layer.stride
        self.padding = int(layer.padding[0])
        weight = layer.weight.detach().flatten(1).t()  # (c k, o)
        bias = None if layer.bias is None else layer.bias.detach()
        self.product = Product(weight.to(dtype).contiguous(), bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, O, L)."""
        windows = F.pad(x, (self.padding, self.padding)).unfold(2, self.size, self.stride)
        return self.product(windows.transpose(1, 2).flatten(2)).transpose(1, 2)


class TransposedProduct(nn.Module):
    """A transposed 1-D convolution of stride s as one product with all s phases of the output.

    Output q s + r is the sum over i of input q - i by weight r + i s. So windows of M = ceil(k / s)
    inputs give s outputs each; weights behind the k-th are 0.

    Args:
        layer: The convolution, see `is_product`.
        dtype: Precision of its product.
    """

    def __init__(self, layer: nn.ConvTranspose1d, dtype: torch.dtype) -> None:
        super().__init__()
        (size,), (self.stride,) = layer.kernel_size, layer.stride
        self.reach = -(-size // self.stride)  # M
        self.first = int(layer.padding[0])
        # Outputs are (T - 1) s + `more` in all.
        self.more = size - 2 * self.first + int(layer.output_padding[0])
        weight = F.pad(layer.weight.detach(), (0, self.reach * self.stride - size))
        # The oldest input of a window stands first.
        weight = weight.unflatten(2, (self.reach, self.stride)).flip(2)  # (c, o, m, s)
        weight = weight.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)  # (c m, o s)
        self.product = Product(weight.to(dtype).contiguous(), None)
        bias = None if layer.bias is None else layer.bias.detach()[:, None]
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, O, L)."""
        windows = F.pad(x, (self.reach - 1, self.reach - 1)).unfold(2, self.reach, 1)
        phases = self.product(windows.transpose(1, 2).flatten(2))  # (b, t + m - 1, o s)
        outputs = phases.unflatten(2, (-1, self.stride)).transpose(1, 2).flatten(2)
        length = (x.shape[2] - 1) * self.stride + self.more
        result = outputs[..., self.first : self.first + length]
        return result if self.bias is None else result + self.bias


def is_product(layer: nn.Module) -> bool:
    """Whether a layer is one that `product` knows."""
    if type(layer) is nn.Linear:
        return True
    if type(layer) is nn.Conv1d:
        plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return plain and layer.groups == 1 and layer.dilation == (1,)
    if type(layer) is nn.ConvTranspose1d:
        (size,), (stride,) = layer.kernel_size, layer.stride
        last = size + layer.output_padding[0] - int(layer.padding[0])
        return last <= -(-size // stride) * stride and layer.groups == 1 and layer.dilation == (1,)
    return False


def product(layer: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A layer of which `is_product` is true as a product of that precision.

    Raises:
        TypeError: If it is another one.
    """
    if is_product(layer):
        if isinstance(layer, nn.Linear):
            return LinearProduct(layer, dtype)
        if isinstance(layer, nn.Conv1d):
            return ConvolutionProduct(layer, dtype)
        if isinstance(layer, nn.ConvTranspose1d):
            return TransposedProduct(layer, dtype)
    raise TypeError(f"no product is known for {layer}")


def with_products(program: Program, dtype: torch.dtype) -> Program:
    """The program with its layers as products of that precision, 2-D convolutions left alone.

    Modules are copied, shared ones once; the given program stays as it is.
    """
    layers = {id(one): one for call in program.calls for one in _layers(call.module)}
    # Copying finds each layer's place already taken by its product.
    memo: dict[int, object] = {key: product(one, dtype) for key, one in layers.items()}
    calls = [replace(call, module=copy.deepcopy(call.module, memo)) for call in program.calls]
    return replace(program, calls=calls)


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """Layers of a module that nothing but their own ``forward`` reads."""
    # PyTorch's attention, and a value whose gradient is written out, read weights by themselves.
    if isinstance(module, nn.MultiheadAttention) or getattr(module, "reads_weights", False):
        return
    for child in module.children():
        if is_product(child):
            yield child
        else:
            yield from _layers(child)
