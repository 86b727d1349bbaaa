"""ACT as graphs: a chunk per plan, its average with earlier ones being a state."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ...decoding import ActionSpec
from ..export.parts import START, STEP, Exportable, Graph
from ..export.pictures import join_calls
from ..programs.program import Call, Port, Program
from .config import ActSampling
from .model import ActModel
from .program import ENSEMBLE, NEXT_ENSEMBLE, PICTURES, act_program, empty_ensemble


class Empty(nn.Module):
    """What is before the first chunk of an episode.

    Args:
        ensemble: That of one row, shape (1, C, D + 2).
    """

    ensemble: Tensor

    def __init__(self, ensemble: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("ensemble", torch.from_numpy(ensemble), persistent=False)

    def forward(self, chunk: Tensor) -> Tensor:
        """Return it for as many rows as there are chunks (R, C, D)."""
        # Its length would be a constant of the graph.
        return self.ensemble.expand(chunk.shape[0], -1, -1)


def export_act(model: ActModel, action_spec: ActionSpec, sampling: ActSampling) -> Exportable:
    """ACT as graphs.

    Raises:
        ValueError: If the choices do not fit the model.
    """
    sampling.check(model.config)
    program = act_program(model, action_spec, sampling.temporal_ensemble)
    if model.cameras:
        ports = {name: port for name, port in program.inputs.items() if name != PICTURES}
        seen = {key: Port((1, *shape), dtype=np.uint8) for key, shape in model.cameras.items()}
        calls = [*join_calls(seen, PICTURES), *program.calls]
        program = Program(ports | seen, program.outputs, calls)
    graphs = {STEP: Graph(program, late=0)}
    if sampling.temporal_ensemble is None:
        return Exportable(graphs, 1, sampling.num_execute)
    *calls, last = program.calls
    empty = Call(Empty(empty_ensemble(model, 1)).eval(), {"chunk": "chunk"}, (ENSEMBLE,))
    inputs = {name: port for name, port in program.inputs.items() if name != ENSEMBLE}
    graphs[START] = Graph(Program(inputs, program.outputs, [*calls, empty, last]))
    state = {NEXT_ENSEMBLE: program.inputs[ENSEMBLE].shape}
    return Exportable(graphs, 1, sampling.num_execute, state, {ENSEMBLE: NEXT_ENSEMBLE})
