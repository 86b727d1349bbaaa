"""What an engine is, and how one is chosen by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from ....decoding.plumbing.devices import CPU
from ....decoding.plumbing.plugins import Registry
from ..program import Program
from .eager import EagerEngine
from .memory import Memory

# Largest accepted difference from eager PyTorch, in units of the outputs' scales; float32 rounding
# stays two orders of magnitude below, a half-precision matrix product does not.
TOLERANCE = 1e-3
PRECISIONS = ("float32", "tf32", "bf16", "fp16")
# No engine, but whichever is fastest for a policy where it is to run; see `policies.fastest`.
AUTO = "auto"


class Engine(Protocol):
    """Executes one program for any number of rows.

    A class that is made from a `Program`. To add one: the class in a file of its own, and its line
    in `ENGINES`; or, in a package of one's own, an entry point of the group ``hotloop.engines``, or
    nothing but ``engine=module:Name``.

    Attributes:
        parity: Largest absolute difference from eager PyTorch, found when the engine was built, in
            units of the outputs' scales. A class that computes with fewer digits than float32 has
            an attribute `tolerance`: the largest that it may be, instead of `TOLERANCE`. One that
            cannot run weights on a GPU has an attribute `cpu_only`, one that runs nowhere else
            `gpu_only`. One that takes long to build has `slow_to_build`: ``auto`` leaves it out.
    """

    parity: float

    def __init__(self, program: Program) -> None: ...

    @staticmethod
    def obstacle() -> Exception | None:
        """Return the error that says what the engine lacks on this machine, None if nothing."""
        ...

    def memory(self, rows: int) -> Memory:
        """Memory of a run of so many rows, the same at every call."""
        ...


ENGINES: Registry[type[Engine]] = Registry(
    "hotloop.engines",
    "engine",
    {
        "eager": "eager:EagerEngine",
        "compile": "torch_compile:CompiledEngine",
        "onnx": "onnx_runtime:OnnxRuntimeEngine",
        "openvino": "openvino_runtime:OpenVinoEngine",
        "openvino-bf16": "openvino_runtime:OpenVinoBfloat16Engine",
        "cuda-graph": "cuda_graph:CudaGraphEngine",
        "eager-tf32": "precision:EagerTf32Engine",
        "eager-bf16": "precision:EagerBfloat16Engine",
        "eager-fp16": "precision:EagerFloat16Engine",
        "cuda-graph-tf32": "precision:CudaGraphTf32Engine",
        "cuda-graph-bf16": "precision:CudaGraphBfloat16Engine",
        "cuda-graph-fp16": "precision:CudaGraphFloat16Engine",
    },
    str(__package__),
)


def engine_class(name: str) -> type[Engine]:
    """The engine called `name`.

    Raises:
        ValueError: If there is none.
        ImportError: If it is a plugin's, or one's own, and cannot be imported.
    """
    if is_auto(name):
        raise ValueError(
            f"engine {name!r} is chosen for a whole policy, by Checkpoint.policy(engine={name!r}); "
            "name one engine here"
        )
    if name not in ENGINES:
        raise ValueError(ENGINES.unknown(name, AUTO))
    found = ENGINES.get(name)
    if not (isinstance(found, type) and hasattr(found, "memory") and hasattr(found, "obstacle")):
        raise ValueError(
            f"engine {name!r} is {found!r}; an engine must be a class with the members of "
            "hotloop.policies.programs.engines.engine.Engine"
        )
    return found


def is_auto(name: str) -> bool:
    """Whether a name is ``"auto"``, or that with a precision, see `engine_name`."""
    return name.partition("-")[0] == AUTO


def engine_name(engine: str, precision: str) -> str:
    """Name of the engine that computes with that precision, see `precision`.

    ``"auto"`` has all of them.

    Raises:
        ValueError: If there is no such precision, or the engine does not have it.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    ending = f"-{precision}"
    if precision == PRECISIONS[0] or engine.endswith(ending):
        return engine
    if engine == AUTO or engine + ending in ENGINES.names:
        return engine + ending
    having = [AUTO] + [one.removesuffix(ending) for one in ENGINES.names if one.endswith(ending)]
    raise ValueError(
        f"engine {engine!r} has no precision {precision}; choose precision=float32, or engine "
        f"{' or '.join(having)}"
    )


def make_engine(name: str, program: Program) -> Engine:
    """Build the engine called `name` and compare it with eager PyTorch.

    Raises:
        ValueError: If the name is unknown, the machine lacks what the engine needs, or its
            results are not those of eager PyTorch.
        ImportError: If a package is missing.
    """
    if obstacle := find_obstacle(name):
        raise obstacle
    engine = _build(name, program)
    if isinstance(engine, EagerEngine) and engine.parity == 0:
        return engine
    engine.parity = max_difference(engine, EagerEngine(program), program)
    # Written so that NaN, which fails every comparison, is a mismatch.
    tolerance = getattr(engine, "tolerance", TOLERANCE)
    if not engine.parity <= tolerance:
        raise ValueError(
            f"engine {name!r} differs from eager PyTorch by {engine.parity:.2g} in units of the "
            f"outputs' scales, at most {tolerance:g} is accepted; use another engine"
        )
    return engine


def installed_engines(device: str = CPU) -> tuple[str, ...]:
    """Names of the engines that this machine can run, eager first.

    Those that compute with fewer digits are left out; they are for who asks for them. So are those
    that only know the CPU, for weights elsewhere.
    """
    names = sorted(ENGINES.names, key=lambda name: name != "eager")
    exact = (name for name in names if not hasattr(engine_class(name), "tolerance"))
    return tuple(name for name in exact if _runs_here(name, device))


def engines_of(precision: str, device: str = CPU) -> tuple[str, ...]:
    """Names of the engines that this machine can run with that precision, as `installed_engines`.

    Raises:
        ValueError: If there is no such precision, or nothing that has it here.
    """
    if precision == PRECISIONS[0]:
        return installed_engines(device)
    engine_name("eager", precision)
    names = (name for name in ENGINES.names if name.endswith(f"-{precision}"))
    found = tuple(name for name in names if _runs_here(name, device))
    if not found:
        raise ValueError(
            f"no engine computes with precision {precision} on {device}; choose another one of "
            f"{', '.join(PRECISIONS)}"
        )
    return found


def _runs_here(name: str, device: str) -> bool:
    only_cpu = hasattr(engine_class(name), "cpu_only")
    return (device == CPU or not only_cpu) and find_obstacle(name) is None


def tried_engines(precision: str, device: str) -> tuple[str, ...]:
    """Names of the engines that ``auto`` tries for weights on such a device, eager first.

    Whether this machine has what they need is another question, see `find_obstacle`.
    """
    if precision == PRECISIONS[0]:
        names = [name for name in ENGINES.names if not hasattr(engine_class(name), "tolerance")]
    else:
        names = [name for name in ENGINES.names if name.endswith(f"-{precision}")]
    fit = [name for name in names if _suits(engine_class(name), device)]
    return tuple(sorted(fit, key=lambda name: not name.startswith("eager")))


def _suits(engine: type[Engine], device: str) -> bool:
    """Whether ``auto`` tries an engine for weights on such a device."""
    elsewhere = hasattr(engine, "gpu_only") if device == CPU else hasattr(engine, "cpu_only")
    return not elsewhere and not hasattr(engine, "slow_to_build")


def find_obstacle(name: str) -> Exception | None:
    """Return the error that says what the engine called `name` lacks here, None if nothing."""
    return engine_class(name).obstacle()


def run(engine: Engine, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run once on `inputs`, shape (R, ...) each, and return copies of the outputs."""
    memory = engine.memory(len(next(iter(inputs.values()))))
    for name, array in inputs.items():
        memory.inputs[name][...] = array
    memory.run()
    return {name: array.copy() for name, array in memory.outputs.items()}


def max_difference(engine: Engine, reference: Engine, program: Program, seed: int = 0) -> float:
    """Largest difference of two engines on typical input, for one and for three rows.

    It is measured in units of the outputs' scales.
    """
    generator = np.random.default_rng(seed)
    differences = []
    for rows in (1, 3):
        inputs = program.draw(generator, rows)
        found, expected = run(engine, inputs), run(reference, inputs)
        differences += [
            port.difference(found[name], expected[name]) for name, port in program.outputs.items()
        ]
    return float(np.max(differences))


def _build(name: str, program: Program) -> Engine:
    return engine_class(name)(program)
