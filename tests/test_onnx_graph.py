"""Graphs that are joined into one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import GraphProto, helper, numpy_helper
from tiny import SPEC, tiny_model
from torch import Tensor, nn

from hotloop.policies.checkpoint import Checkpoint
from hotloop.policies.diffusion.config import DiffusionSampling
from hotloop.policies.export.write import export_policy
from hotloop.policies.programs.engines import onnx_graph
from hotloop.policies.programs.engines.onnx_graph import JoinedWeights, refuse_too_large
from hotloop.policies.programs.program import Call, Program


def graph_of(value: float) -> GraphProto:
    weight = numpy_helper.from_array(np.full(3, value, np.float32), "weight")
    return helper.make_graph([], "one", [], [], [weight])


def test_graphs_whose_weights_have_the_same_name_keep_their_own() -> None:
    """Also when nobody holds a graph any more and the next one takes its place in memory."""
    target = GraphProto()
    weights = JoinedWeights(target)
    names = [weights.add(graph_of(value), f"{value}.")["weight"] for value in range(50)]
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in target.initializer}
    assert [stored[name][0] for name in names] == list(range(50))


def test_a_weight_that_is_used_twice_is_stored_once() -> None:
    target = GraphProto()
    weights = JoinedWeights(target)
    same = graph_of(1.0)
    names = [weights.add(graph, str(index))["weight"] for index, graph in enumerate((same, same))]
    names.append(weights.add(graph_of(1.0), "2")["weight"])
    assert len(set(names)) == len(target.initializer) == 1


class Large(nn.Module):
    """A network around a layer that takes no memory, of 1.2 GB if it were there."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def large_layer() -> nn.Module:
    return nn.Linear(30_000, 10_000, bias=False, device="meta")


def program_of(*modules: nn.Module) -> Program:
    return Program({}, {}, [Call(module, {}, (str(i),)) for i, module in enumerate(modules)])


def test_weights_beyond_what_a_model_can_hold_are_refused_before_anything_is_exported() -> None:
    """Two gigabytes are protobuf's limit; beyond it, serialising fails after minutes."""
    first, second = Large(large_layer()), Large(large_layer())
    refuse_too_large(program_of(first, second), joined=False)
    with pytest.raises(
        ValueError, match=r"weights take 2\.4 GB, and an ONNX .* at most 2\.1 GB; run"
    ):
        refuse_too_large(program_of(first, second), joined=True)
    layer = large_layer()
    refuse_too_large(program_of(Large(layer), Large(layer)), joined=True)  # shared, so there once


def test_engines_and_export_refuse_a_model_that_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph, "LARGEST_MODEL", 1000)
    checkpoint = Checkpoint("dp", tiny_model(), SPEC, DiffusionSampling(4, 2), {})
    for engine in ("onnx", "openvino"):
        with pytest.raises(ValueError, match="run it with engine eager, compile or cuda-graph"):
            checkpoint.policy(engine=engine)
    with pytest.raises(ValueError, match="or export it with format=torch-export"):
        export_policy(checkpoint, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
