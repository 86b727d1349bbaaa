"""A model as ONNX graphs: exported once, then cut into the functions that runtimes compile."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..model import DiffusionModel
from ..program import Encode, ReverseStep, reverse_step

if TYPE_CHECKING:
    import onnx

INPUTS = ("observation", "x", "level_modulation", "coefficients")
OUTPUTS = ("observation_modulation", "output", "next_x")

# The last export of each model and the weights that it was made from.
_exports: WeakKeyDictionary[DiffusionModel, tuple[bytes, onnx.ModelProto]] = WeakKeyDictionary()


class OnnxGraph:
    """The ONNX graph of one network call, from observation to next x, for any number of rows.

    Exporting takes seconds, so models are exported once; a model whose weights have changed since
    then is exported again.

    Args:
        model: Trained model.
    """

    def __init__(self, model: DiffusionModel) -> None:
        weights = _digest(model)
        if model not in _exports or _exports[model][0] != weights:
            _exports[model] = weights, _export(model)
        self._proto = _exports[model][1]

    def encode(self) -> bytes:
        """Serialise observation -> observation_modulation."""
        return self._cut(("observation",), "observation_modulation")

    def step(self) -> bytes:
        """Serialise observation_modulation, x, level_modulation, coefficients -> next_x."""
        return self._cut(("observation_modulation", *INPUTS[1:]), "next_x")

    def single(self, level_modulation: Tensor, coefficients: Tensor | None) -> bytes:
        """Serialise observation, x -> next_x, or -> output without coefficients.

        What depends on the constants alone is computed when a runtime loads the graph.
        """
        constants = {"level_modulation": level_modulation}
        if coefficients is None:
            return self._cut(("observation", "x"), "output", constants)
        constants["coefficients"] = coefficients
        return self._cut(("observation", "x"), "next_x", constants)

    def _cut(
        self, inputs: tuple[str, ...], output: str, constants: Mapping[str, Tensor] | None = None
    ) -> bytes:
        from onnx import numpy_helper
        from onnx.utils import Extractor

        constants = constants or {}
        part = Extractor(self._proto).extract_model([*inputs, *constants], [output])
        for value in [value for value in part.graph.input if value.name in constants]:
            part.graph.input.remove(value)
        for name, value in constants.items():
            part.graph.initializer.append(numpy_helper.from_array(value.numpy(), name))
        return part.SerializeToString()


class _NetworkCall(nn.Module):
    """Everything between an observation and the next x, with every interface in between."""

    def __init__(self, model: DiffusionModel) -> None:
        super().__init__()
        self.encode = Encode(model)
        self.step = ReverseStep(model)

    def forward(
        self, observation: Tensor, x: Tensor, level_modulation: Tensor, coefficients: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        modulation = self.encode(observation)
        output = self.step(modulation, x, level_modulation, None)
        return modulation, output, reverse_step(x, output, coefficients)


def _export(model: DiffusionModel) -> onnx.ModelProto:
    config = model.config
    # Two rows: the exporter takes a size of 1 for a constant.
    observation = torch.zeros(2, config.num_obs_steps, len(model.observation_normalizer.scale))
    x = torch.zeros(2, config.horizon, model.action_dim)
    with torch.no_grad():
        level_modulation = model.network.embed_level(torch.ones(1, config.horizon))
    rows = torch.export.Dim("rows")
    with _quiet():
        program = torch.onnx.export(
            _NetworkCall(model),
            (observation, x, level_modulation, torch.zeros(5, 1, config.horizon, 1)),
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes=({0: rows}, {0: rows}, None, None),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _digest(model: DiffusionModel) -> bytes:
    digest = hashlib.blake2b()
    for value in model.state_dict().values():
        digest.update(value.contiguous().numpy())
    return digest.digest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about itself from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
