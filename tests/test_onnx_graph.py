"""Graphs that are joined into one."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, helper, numpy_helper

from hotloop.policies.programs.engines.onnx_graph import JoinedWeights


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
