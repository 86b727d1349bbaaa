"""CUDA graphs: a whole control step of any number of network calls as one launch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from ..program import Port, Program
from .arithmetic import arithmetic
from .memory import Memory
from .products import with_products
from .recording import record_graph
from .torch_compile import compiled

_ALIGNMENT = 64  # [byte]
_OLDEST_GPU = (7, 0)  # compute capability that Triton compiles for
# Of one function, which all programs of a process share.
_LIMITS = {"recompile_limit": 256, "accumulated_recompile_limit": 256}
_LOG = logging.getLogger(__name__)


class CudaGraphEngine:
    """Runs a program as one CUDA graph, recorded once per number of rows.

    Noise is drawn beforehand and goes in with the observation, so the graph holds the network
    calls and the arithmetic between them: nothing returns to Python before the last action. Where
    Triton is there, what is recorded is compiled before, which joins the many small kernels
    between two products; that takes seconds per network.

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
        self._compiled: Program | None = None
        if reason := triton_obstacle(self._device):
            _LOG.info("a CUDA graph of PyTorch's own kernels: %s", reason)
        else:
            self._compiled = compiled(self._program, dynamic=None)
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
            self._memories[rows] = self._record_compiled(rows) or self._record(self._program, rows)
        return self._memories[rows]

    def _record_compiled(self, rows: int) -> Memory | None:
        """Record what is compiled; None, now and from then on, if it cannot be compiled here."""
        if self._compiled is None:
            return None
        from torch._dynamo import config

        try:
            with warnings.catch_warnings(), config.patch(_LIMITS):
                # The compiler's own remarks are nothing that the user could act upon.
                warnings.simplefilter("ignore")
                return self._record(self._compiled, rows)
        except Exception as error:  # noqa: BLE001 - two compilers and a driver, each with its own
            self._compiled = None
            told = " ".join(str(error).split())[:200]
            _LOG.warning(
                "a CUDA graph of PyTorch's own kernels, which takes longer: the network cannot be "
                "compiled: %s: %s", type(error).__name__, told
            )  # fmt: skip
            return None

    @torch.no_grad()
    def _record(self, program: Program, rows: int) -> Memory:
        device = self._device
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


def triton_obstacle(device: torch.device) -> str:
    """What is in the way of compiling for a GPU; empty if nothing is."""
    if find_spec("triton") is None:
        return "the package triton is not installed"
    if (found := torch.cuda.get_device_capability(device)) < _OLDEST_GPU:
        needed = ".".join(map(str, _OLDEST_GPU))
        return f"Triton needs compute capability {needed}, the GPU has {'.'.join(map(str, found))}"
    return ""


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
