"""CUDA graphs: a whole control step of any number of network calls as one launch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..program import Port, Program
from .arithmetic import arithmetic
from .memory import Memory
from .products import with_products
from .recording import record_graph

_ALIGNMENT = 64  # [byte]


class CudaGraphEngine:
    """Runs a program as one CUDA graph, recorded once per number of rows.

    Noise is drawn beforehand and goes in with the observation, so the graph holds the network
    calls and the arithmetic between them: nothing returns to Python before the last action.

    Args:
        program: What to run; its modules are copied, to the current GPU if they are on
            none.
    """

    gpu_only = True
    dtype, tf32 = torch.float32, False

    def __init__(self, program: Program) -> None:
        self.parity = float("nan")
        self._device = program.device
        if self._device.type != "cuda":
            self._device = torch.device("cuda", torch.cuda.current_device())
        self._program = with_products(program.to(self._device), self.dtype)
        self._memories: dict[int, Memory] = {}

    @staticmethod
    def obstacle() -> Exception | None:
        """A GPU is needed; see `Engine`."""
        if torch.cuda.is_available():
            return None
        return ValueError(
            "engine 'cuda-graph' needs an NVIDIA GPU that PyTorch can use: none found"
        )

    def memory(self, rows: int) -> Memory:
        """Memory of a run; see `Engine`."""
        if rows not in self._memories:
            self._memories[rows] = self._record(rows)
        return self._memories[rows]

    @torch.no_grad()
    def _record(self, rows: int) -> Memory:
        program, device = self._program, self._device
        # All inputs share one pinned buffer, and all outputs another: two copies per run.
        host_in, inputs = _pinned(program.inputs, rows)
        host_out, outputs = _pinned(program.outputs, rows)
        device_in, device_out = host_in.to(device), host_out.to(device)
        sources = _views(device_in, program.inputs, rows)
        targets = _views(device_out, program.outputs, rows)

        def step() -> None:
            result = program.run(sources)
            for name, target in targets.items():
                target.copy_(result[name])

        with arithmetic(device, self.tf32):
            replay = record_graph(step, device)

        def run() -> None:
            device_in.copy_(host_in, non_blocking=True)
            replay()
            host_out.copy_(device_out, non_blocking=True)
            torch.cuda.current_stream(device).synchronize()

        return Memory(inputs, outputs, run)


def _pinned(ports: Mapping[str, Port], rows: int) -> tuple[Tensor, dict[str, np.ndarray]]:
    size = sum(_num_bytes(port, rows) for port in ports.values())
    flat = torch.zeros(size, dtype=torch.uint8, pin_memory=True)
    return flat, {name: view.numpy() for name, view in _views(flat, ports, rows).items()}


def _views(flat: Tensor, ports: Mapping[str, Port], rows: int) -> dict[str, Tensor]:
    """Cut flat memory, in bytes, into the arrays of the ports."""
    views, begin = {}, 0
    for name, port in ports.items():
        dtype = torch.from_numpy(np.empty(0, port.dtype)).dtype
        used = rows * int(np.prod(port.shape)) * dtype.itemsize
        views[name] = flat[begin : begin + used].view(dtype).view(rows, *port.shape)
        begin += _num_bytes(port, rows)
    return views


def _num_bytes(port: Port, rows: int) -> int:
    """Bytes of a port's array, rounded up so that the next one is aligned."""
    used = rows * int(np.prod(port.shape)) * np.dtype(port.dtype).itemsize
    return -(-used // _ALIGNMENT) * _ALIGNMENT
