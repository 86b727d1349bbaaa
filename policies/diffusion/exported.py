"""The diffusion policies as graphs: what they keep between two plans becomes input and output.

Everything is drawn and computed in the order of `DiffusionPolicy` and `StreamingDiffusionPolicy`,
so that an exported policy plans what they plan.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from ...decoding import ActionSpec
from ..export.parts import FRAME, STEP, Exportable, Graph
from ..export.pictures import join_calls
from ..programs.program import Call, Port, Program
from ..programs.shared import shared
from .config import DiffusionSampling
from .encoding import FEATURES, PICTURES, VECTORS, feature_ports, observation_ports
from .model import DiffusionModel, join
from .policy import DiffusionPolicy
from .reverse import noise_names

STEP_NOISE = "step_noise"


class EncodeFeatures(nn.Module):
    """Features of pictures, and vectors, to modulation.

    Args:
        model: Trained model.
    """

    def __init__(self, model: DiffusionModel) -> None:
        super().__init__()
        self.normalizer, self.network = model.observation_normalizer, model.network

    def forward(self, features: Tensor, observation: Tensor | None = None) -> Tensor:
        """Return the modulation (R, ...) of features (R, To, F) and vectors (R, To, V), if any."""
        if observation is None:
            return self.network.encode(features.flatten(1))
        return self.network.encode(join(self.normalizer(observation), features))


class SplitNoise(nn.Module):
    """The noise of all calls as that of each."""

    def forward(self, noise: Tensor) -> tuple[Tensor, ...]:
        """Return n tensors of shape (R, H, D) of noise (R, n, H, D)."""
        return noise.unbind(1)


def export_diffusion(
    model: DiffusionModel, action_spec: ActionSpec, sampling: DiffusionSampling
) -> Exportable:
    """A Diffusion Policy as graphs.

    Raises:
        ValueError: With real-time chunking, whose gradient is in no graph.
    """
    if sampling.prefix_guidance:
        raise ValueError(
            "real-time chunking is not exported: it follows a gradient through the network, which "
            "is in no graph; export with sampling.prefix_guidance='' or run the checkpoint itself"
        )
    program = DiffusionPolicy(model, action_spec, sampling).program
    program, names = pure(model, program)
    graphs = {STEP: Graph(program, ("x", *names), late=0)}
    return Exportable(
        frame_graphs(model) | graphs, model.config.num_obs_steps, sampling.num_execute
    )


def pure(model: DiffusionModel, program: Program) -> tuple[Program, tuple[str, ...]]:
    """A program that is given features of pictures, and the noise of all calls as one input.

    Returns:
        The program and the name of that input, if there is any noise.
    """
    inputs, outputs, calls = dict(program.inputs), dict(program.outputs), list(program.calls)
    if model.vision is not None:
        # Its first call encodes the newest pictures and is told what came of the older ones.
        ports = observation_ports(model)
        inputs = {name: port for name, port in inputs.items() if name not in ports}
        size, steps = model.vision.num_features, model.config.num_obs_steps
        seen = {FEATURES: Port((steps, size))}
        if VECTORS in ports:
            seen[VECTORS] = ports[VECTORS]
        inputs = seen | inputs
        module = shared(
            EncodeFeatures,
            model.network,
            lambda: EncodeFeatures(model),
            id(model.observation_normalizer),
        )
        calls[0] = Call(module, {name: name for name in seen}, calls[0].outputs[:1])
        outputs.pop(FEATURES)
    names = noise_names(program)
    if not names:
        return Program(inputs, outputs, calls, program.num_calls), ()
    port = inputs[names[0]]
    inputs = {name: one for name, one in inputs.items() if name not in names}
    inputs[STEP_NOISE] = replace(port, shape=(len(names), *port.shape))
    calls = [Call(SplitNoise(), {"noise": STEP_NOISE}, tuple(names)), *calls]
    return Program(inputs, outputs, calls, program.num_calls), (STEP_NOISE,)


def frame_graphs(model: DiffusionModel) -> dict[str, Graph]:
    """The graph that encodes one frame's pictures, by the names of their keys, if there are any."""
    if model.vision is None:
        return {}
    ports = {key: Port(shape, dtype=np.uint8) for key, shape in model.vision.shapes.items()}
    calls = [*join_calls(ports, PICTURES), Call(model.vision, {PICTURES: PICTURES}, (FEATURES,))]
    return {FRAME: Graph(Program(ports, feature_ports(model), calls))}
