"""The parity gate: what was exported against eager PyTorch, before anything is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ...decoding import Executor, Policy
from ...decoding.interface import is_picture
from ..programs.engines.engine import TOLERANCE
from ..programs.program import Program
from .formats import Compute
from .parts import Exportable

ROWS = (1, 3)


def check_graphs(exportable: Exportable, compute: Compute, num_inputs: int = 4) -> dict[str, Any]:
    """Compare every graph on drawn inputs; returns the largest difference of each.

    Raises:
        ValueError: If one is beyond `TOLERANCE`, in units of the outputs' scales.
    """
    generator, found = np.random.default_rng(0), dict[str, float]()
    for name, graph in exportable.graphs.items():
        differences = [
            _difference(graph.program, lambda given, name=name: compute(name, given), drawn)
            for rows in ROWS
            for drawn in (graph.program.draw(generator, rows) for _ in range(num_inputs))
        ]
        found[name] = float(np.max(differences))
        _refuse_beyond(found[name], f"graph {name!r}")
    return {"inputs": num_inputs * len(ROWS), "max_difference": found}


@torch.no_grad()
def _difference(
    program: Program,
    compute: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]],
    inputs: Mapping[str, np.ndarray],
) -> float:
    expected = program.run({name: torch.from_numpy(array) for name, array in inputs.items()})
    found = compute(inputs)
    return max(
        port.difference(found[name], expected[name].numpy())
        for name, port in program.outputs.items()
    )


def check_closed_loop(
    found: Policy, expected: Policy, exportable: Exportable, num_steps: int
) -> dict[str, Any]:
    """Let both policies act on the same observations for `num_steps` control steps.

    Raises:
        ValueError: If their actions differ by more than `TOLERANCE`, in units of their scale.
    """
    port = exportable.graphs["step"].program.outputs["actions"]
    executors = [Executor(policy) for policy in (found, expected)]
    for executor in executors:
        executor.reset([0])
    largest = 0.0
    for frame in _frames(exportable, found, num_steps):
        one, other = (executor.act(frame).astype(np.float32) for executor in executors)
        shape = (1, port.shape[0], one.shape[1])
        spread = [np.broadcast_to(actions[:, None], shape) for actions in (one, other)]
        largest = max(largest, port.difference(spread[0].copy(), spread[1].copy()))
    _refuse_beyond(largest, f"a closed loop of {num_steps} steps")
    return {"steps": num_steps, "max_difference": largest}


def _frames(exportable: Exportable, policy: Policy, num_steps: int) -> Any:
    """Observations that wander about what is typical, and pictures of noise; one row each."""
    generator = np.random.default_rng(1)
    port = exportable.graphs["step"].program.inputs.get("observation")
    shapes = policy.observation_spec.shapes
    wander = np.zeros(0 if port is None else port.shape[1])
    for _ in range(num_steps):
        wander = 0.95 * wander + 0.3 * generator.standard_normal(len(wander))
        frame, begin = dict[str, np.ndarray](), 0
        vectors = wander
        if port is not None:
            newest = np.broadcast_to(port.offset + port.scale * wander, port.shape)[-1]
            vectors = newest.astype(np.float32)
        for key, shape in shapes.items():
            if is_picture(shape):
                frame[key] = generator.integers(0, 256, (1, *shape), np.uint8)
                continue
            end = begin + int(np.prod(shape))
            frame[key] = vectors[begin:end].reshape(1, *shape)
            begin = end
        yield frame


def _refuse_beyond(difference: float, what: str) -> None:
    # Written so that NaN, which fails every comparison, is refused.
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{what} differs from eager PyTorch by {difference:.2g} in units of the outputs' "
            f"scales, at most {TOLERANCE:g} is accepted; nothing is written"
        )
