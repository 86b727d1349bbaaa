"""What an engine is, and how one is chosen by name."""

from __future__ import annotations

import difflib
import os
import shutil
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import torch

from ..program import ReverseProgram
from .eager import EagerEngine

ENGINES = ("eager", "compile", "onnx", "openvino", "cuda-graph")
# Largest accepted difference from eager PyTorch, in normalised action units; float32 rounding
# stays two orders of magnitude below, a half-precision matrix product does not.
TOLERANCE = 1e-3
_RUNTIME_PACKAGES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
}


class Engine(Protocol):
    """Executes one reverse program for any number of rows.

    Attributes:
        parity: Largest absolute difference from eager PyTorch, found when the engine was built, in
            normalised action units.
    """

    parity: float

    def __call__(
        self, observation: np.ndarray, x: np.ndarray, noise: np.ndarray | None = None
    ) -> np.ndarray:
        """Carry `x` through every call of the program.

        Args:
            observation: Frames in physical units, shape (R, To, O), float32.
            x: Noisy normalised actions at the program's first levels, shape (R, H, D), float32.
            noise: Standard normal noise per call, shape (calls, R, H, D), for a DDPM program.

        Returns:
            Normalised actions at the program's last levels, shape (R, H, D), float32.
        """
        ...


def make_engine(name: str, program: ReverseProgram) -> Engine:
    """Build the engine called `name` and compare it with eager PyTorch.

    Raises:
        ValueError: If the name is unknown, the machine lacks what the engine needs, or its
            results are not those of eager PyTorch.
        ImportError: If a package is missing.
    """
    if name not in ENGINES:
        near = difflib.get_close_matches(name, ENGINES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {name!r}{hint}")
    if name == "eager":
        return EagerEngine(program)
    if obstacle := find_obstacle(name):
        raise obstacle
    engine = _build(name, program)
    engine.parity = max_difference(engine, EagerEngine(program), program)
    # Written so that NaN, which fails every comparison, is a mismatch.
    if not engine.parity <= TOLERANCE:
        raise ValueError(
            f"engine {name!r} differs from eager PyTorch by {engine.parity:.2g} in normalised "
            f"action units, at most {TOLERANCE:g} is accepted; use another engine"
        )
    return engine


def installed_engines() -> tuple[str, ...]:
    """Names of the engines that this machine can run."""
    return tuple(name for name in ENGINES if find_obstacle(name) is None)


def find_obstacle(name: str) -> Exception | None:
    """Return the error that says what the engine called `name` lacks here, None if nothing."""
    missing = [package for package in _RUNTIME_PACKAGES.get(name, ()) if find_spec(package) is None]
    if missing:
        return ImportError(
            f"engine {name!r} needs {', '.join(missing)}; install with "
            "`pip install 'hotloop[runtime]'`"
        )
    compiler = os.environ.get("CXX", "g++")
    if name == "compile" and shutil.which(compiler) is None:
        return ValueError(
            f"engine 'compile' needs a C++ compiler, and {compiler!r} is not on the PATH; install "
            "g++ or point the environment variable CXX to a compiler"
        )
    if name == "cuda-graph" and not torch.cuda.is_available():
        return ValueError(
            "engine 'cuda-graph' needs an NVIDIA GPU that PyTorch can use: none found"
        )
    return None


def max_difference(
    engine: Engine, reference: Engine, program: ReverseProgram, seed: int = 0
) -> float:
    """Largest absolute difference of two engines on random input, for one and for three rows."""
    config, generator = program.model.config, np.random.default_rng(seed)
    differences = []
    for rows in (1, 3):
        scale = program.model.observation_normalizer.scale
        frames = torch.from_numpy(
            generator.uniform(-1, 1, (rows, config.num_obs_steps, len(scale))).astype(np.float32)
        )
        observation = program.model.observation_normalizer.inverse(frames.to(scale.device))
        shape = (rows, config.horizon, program.model.action_dim)
        x = generator.standard_normal(shape, np.float32)
        noise = None
        if program.noise_scale is not None:
            noise = generator.standard_normal((program.num_calls, *shape), np.float32)
        inputs = observation.cpu().numpy(), x, noise
        differences.append(np.abs(engine(*inputs) - reference(*inputs)).max())
    return float(np.max(differences))


def _build(name: str, program: ReverseProgram) -> Engine:
    if name == "cuda-graph":
        from .cuda_graph import CudaGraphEngine

        return CudaGraphEngine(program)
    from .bound import BoundEngine

    if name == "compile":
        from .torch_compile import CompiledGraphs as Graphs
    elif name == "onnx":
        from .onnx_runtime import OnnxRuntimeGraphs as Graphs
    else:
        from .openvino_runtime import OpenVinoGraphs as Graphs
    return BoundEngine(program, Graphs(program.model))
