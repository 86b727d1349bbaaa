"""Precisions: how many digits the products of an engine have, and what they may cost.

``float32`` is every engine's own. Each other one is an engine by itself, ``eager-bf16`` for
example, with its `tolerance`: the largest accepted difference from eager PyTorch in float32, in
normalised action units, so that 0.01 is half a hundredth of an action's range.
"""

from __future__ import annotations

import torch

from ..program import Program
from .cuda_graph import CudaGraphEngine
from .eager import EagerEngine
from .products import with_products

TF32_TOLERANCE = FP16_TOLERANCE = 0.02  # 10 bits of a product's factors
BF16_TOLERANCE = 0.1  # 7 bits


class EagerBfloat16Engine(EagerEngine):
    """PyTorch as it is, with products in bfloat16.

    Args:
        program: What to run; its modules are copied.
    """

    dtype = torch.bfloat16
    tolerance = BF16_TOLERANCE

    def __init__(self, program: Program) -> None:
        super().__init__(with_products(program, self.dtype))
        self.parity = float("nan")


class EagerFloat16Engine(EagerBfloat16Engine):
    """PyTorch as it is, with products in float16."""

    dtype = torch.float16
    tolerance = FP16_TOLERANCE


class EagerTf32Engine(EagerEngine):
    """PyTorch as it is, with products in the GPU's TensorFloat-32.

    Args:
        program: What to run, on a GPU.

    Raises:
        ValueError: If its weights are on the CPU, which has no such numbers.
    """

    tf32 = True
    tolerance = TF32_TOLERANCE

    @staticmethod
    def obstacle() -> Exception | None:
        """A GPU is needed; see `Engine`."""
        if torch.cuda.is_available():
            return None
        return ValueError("precision tf32 is an NVIDIA GPU's, and none was found; use float32")

    def __init__(self, program: Program) -> None:
        if program.device.type == "cpu":
            raise ValueError(
                "precision tf32 is a GPU's, these weights are on the CPU; choose device=cuda, or "
                "precision=float32"
            )
        super().__init__(program)
        self.parity = float("nan")


class CudaGraphTf32Engine(CudaGraphEngine):
    """A CUDA graph with products in TensorFloat-32."""

    tf32 = True
    tolerance = TF32_TOLERANCE


class CudaGraphBfloat16Engine(CudaGraphEngine):
    """A CUDA graph with products in bfloat16."""

    dtype = torch.bfloat16
    tolerance = BF16_TOLERANCE


class CudaGraphFloat16Engine(CudaGraphEngine):
    """A CUDA graph with products in float16."""

    dtype = torch.float16
    tolerance = FP16_TOLERANCE
