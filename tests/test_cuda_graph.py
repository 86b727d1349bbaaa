"""What a CUDA graph records: the compiled network where Triton is there, else what PyTorch has.

No GPU is needed: what is recorded runs on the CPU here, and a fake stands for the compiler.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hotloop.policies.programs.engines import cuda_graph
from hotloop.policies.programs.engines.cuda_graph import CudaGraphEngine, triton_obstacle
from hotloop.policies.programs.engines.engine import run
from hotloop.policies.programs.engines.memory import Memory, allocate
from hotloop.policies.programs.program import Call, Port, Program

COMPILER = "hotloop.policies.programs.engines.cuda_graph"


class Doubling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((), 2.0), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class Compiled(nn.Module):
    """A stand-in for a compiled module: fails for some numbers of rows, and counts its runs."""

    def __init__(self, module: nn.Module, failing: set[int]) -> None:
        super().__init__()
        self.module, self.failing, self.num_runs = module, failing, 0

    def forward(self, x: Tensor) -> Tensor:
        self.num_runs += 1
        if len(x) in self.failing:
            raise RuntimeError("Failed to find\nC compiler")
        return self.module(x)


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine believe in a GPU and record on the CPU."""

    def record(engine: CudaGraphEngine, program: Program, rows: int) -> Memory:
        inputs, outputs = allocate(program, rows)

        def step() -> None:
            sources = {name: torch.from_numpy(array) for name, array in inputs.items()}
            for name, array in outputs.items():
                array[...] = program.run(sources)[name].numpy()

        step()
        return Memory(inputs, outputs, step)

    monkeypatch.setattr(CudaGraphEngine, "_record", record)
    monkeypatch.setattr(Program, "to", lambda program, device: program)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Compiled]:
    """Stand-ins that the fake compiler made; a GPU with Triton is there."""
    stand_ins: list[Compiled] = []

    def compiled(program: Program, dynamic: bool | None) -> Program:
        assert dynamic is None, "one row is the case that counts"
        stand_ins.extend(Compiled(call.module, set()) for call in program.calls)
        calls = zip(program.calls, stand_ins, strict=True)
        return replace(program, calls=[replace(call, module=one) for call, one in calls])

    monkeypatch.setattr(cuda_graph, "compiled", compiled)
    monkeypatch.setattr(cuda_graph, "triton_obstacle", lambda device: "")
    return stand_ins


def doubling() -> Program:
    return Program({"x": Port((2,))}, {"y": Port((2,))}, [Call(Doubling(), {"x": "x"}, ("y",))])


def assert_doubles(engine: CudaGraphEngine, rows: int) -> None:
    x = np.random.default_rng(rows).standard_normal((rows, 2)).astype(np.float32)
    np.testing.assert_array_equal(run(engine, {"x": x})["y"], 2 * x)


@pytest.mark.usefixtures("without_gpu")
def test_where_triton_is_there_the_compiled_network_is_recorded(made: list[Compiled]) -> None:
    engine = CudaGraphEngine(doubling())
    (compiled,) = made
    assert_doubles(engine, 1)
    assert_doubles(engine, 3)
    assert compiled.num_runs == 4


@pytest.mark.usefixtures("without_gpu")
def test_what_cannot_be_compiled_is_recorded_as_it_is_and_told_once(
    made: list[Compiled], caplog: pytest.LogCaptureFixture
) -> None:
    """A machine may have Triton and lack the C compiler that Triton needs."""
    engine = CudaGraphEngine(doubling())
    (compiled,) = made
    compiled.failing = {1}
    assert_doubles(engine, 1)
    assert_doubles(engine, 3)
    assert compiled.num_runs == 1
    (told,) = caplog.messages
    assert told.startswith("a CUDA graph of PyTorch's own kernels, which takes longer: ")
    assert told.endswith("RuntimeError: Failed to find C compiler")


@pytest.mark.usefixtures("without_gpu")
def test_without_triton_nothing_is_compiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cuda_graph, "find_spec", lambda package: None)
    with caplog.at_level(logging.INFO, COMPILER):
        assert_doubles(CudaGraphEngine(doubling()), 1)
    assert caplog.messages == [
        "a CUDA graph of PyTorch's own kernels: the package triton is not installed"
    ]


def test_old_gpus_are_not_compiled_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "find_spec", lambda package: package)
    for capability, told in (
        ((6, 1), "needs compute capability 7.0, the GPU has 6.1"),
        ((9, 0), ""),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert triton_obstacle(torch.device("cuda", 0)).endswith(told)
        assert bool(triton_obstacle(torch.device("cuda", 0))) == bool(told)
