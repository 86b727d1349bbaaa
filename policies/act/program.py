"""A plan of ACT as a program: one call of the network, then its chunk or an average of chunks.

The average is kept as the next control step will need it: for every step of a chunk the weighted
sum of the actions that were planned for it, the sum of their weights, and the next weight.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ...decoding import ActionSpec
from ..programs.program import Call, Port, Program
from .model import ActModel

VECTORS, PICTURES, ENSEMBLE, NEXT_ENSEMBLE = (
    "observation",
    "pictures",
    "ensemble",
    "next_ensemble",
)


class ToPhysical(nn.Module):
    """Normalised actions to physical ones inside their bounds.

    Args:
        model: Trained model.
        action_spec: Bounds.
    """

    low: Tensor
    high: Tensor

    def __init__(self, model: ActModel, action_spec: ActionSpec) -> None:
        super().__init__()
        self.scaling = model.action_scaling
        low, high = action_spec.float32_bounds
        self.register_buffer("low", torch.from_numpy(low).to(self.scaling.scale.device))
        self.register_buffer("high", torch.from_numpy(high).to(self.scaling.scale.device))

    def forward(self, chunk: Tensor) -> Tensor:
        """Map (R, C, D) to actions, clipped; NaN stays NaN."""
        actions = self.scaling(chunk)
        clipped = torch.minimum(torch.maximum(actions, self.low), self.high)
        # Some runtimes' minimum drops NaN, which must not become an admissible action.
        return torch.where(actions.isnan(), actions, clipped)


class Ensemble(nn.Module):
    """The average of all chunks that hold an action for the same control step.

    Zhao et al. 2023, section IV-A: the i-th chunk of a step, the oldest being the 0-th, has weight
    exp(-m i).

    Args:
        physical: From the network's units to physical ones.
        decay: m.
    """

    def __init__(self, physical: ToPhysical, decay: float) -> None:
        super().__init__()
        self.physical, self.ratio = physical, math.exp(-decay)

    def forward(self, chunk: Tensor, ensemble: Tensor) -> tuple[Tensor, Tensor]:
        """Return the averaged actions (R, C, D), physical, and the ensemble they come from.

        Args:
            chunk: Newest chunk, normalised, shape (R, C, D).
            ensemble: That of the control step before, shape (R, C, D + 2).
        """
        # One step on: the last action of the newest chunk is the first for its step.
        nothing = nn.functional.pad(torch.zeros_like(ensemble[:, :1, 1:]), (0, 1), value=1.0)
        shifted = torch.cat([ensemble[:, 1:], nothing], dim=1)
        sums, total, weight = shifted.split([chunk.shape[-1], 1, 1], dim=-1)
        sums, total = sums + weight * chunk, total + weight
        following = torch.cat([sums, total, self.ratio * weight], dim=-1)
        return self.physical(sums / total), following


def empty_ensemble(model: ActModel, num_rows: int) -> np.ndarray:
    """What is before the first chunk of an episode, shape (R, C, D + 2)."""
    nothing = np.zeros((num_rows, model.config.chunk_size, model.action_dim + 2), np.float32)
    nothing[..., -1] = 1.0
    return nothing


def observation_ports(model: ActModel) -> dict[str, Port]:
    """What a program is told of the observation."""
    ports = {}
    if model.vectors:
        normalizer = model.observation_normalizer
        scale, offset = normalizer.scale.cpu().numpy(), normalizer.offset.cpu().numpy()
        # Typical values; a dimension that never varied is scaled by 0.
        unit = 1 / np.where(scale == 0, 1, scale)
        ports[VECTORS] = Port((1, len(scale)), -offset * unit, np.abs(unit))
    if model.cameras:
        ports[PICTURES] = Port((model.num_bytes,), dtype=np.uint8)
    return ports


def network_program(model: ActModel) -> Program:
    """A frame to a normalised ``chunk``."""
    ports = observation_ports(model)
    chunk = Port((model.config.chunk_size, model.action_dim))
    call = Call(model, {name: name for name in ports}, ("chunk",))
    return Program(ports, {"chunk": chunk}, [call])


def act_program(model: ActModel, action_spec: ActionSpec, decay: float | None) -> Program:
    """A frame to ``actions``, physical, shape (R, C, D).

    Args:
        model: Trained model.
        action_spec: Bounds of the actions.
        decay: That of the ensemble, which is then read and written as well; None for no ensemble.
    """
    network, physical = network_program(model), ToPhysical(model, action_spec)
    low, high = action_spec.float32_bounds
    actions = Port(network.outputs["chunk"].shape, scale=(high - low) / 2)
    if decay is None:
        call = Call(physical.eval(), {"chunk": "chunk"}, ("actions",))
        return Program(network.inputs, {"actions": actions}, [*network.calls, call])
    # Typically some chunks that weigh about as much, so that no average divides by nothing.
    offset = np.array([*[0.0] * model.action_dim, 5.0, 1.0])
    scale = np.array([*[3.0] * model.action_dim, 0.5, 0.1])
    state = Port((model.config.chunk_size, len(offset)), offset, scale)
    arguments, outputs = {"chunk": "chunk", ENSEMBLE: ENSEMBLE}, ("actions", NEXT_ENSEMBLE)
    call = Call(Ensemble(physical, decay).eval(), arguments, outputs)
    return Program(
        {**network.inputs, ENSEMBLE: state},
        {"actions": actions, NEXT_ENSEMBLE: state},
        [*network.calls, call],
    )
