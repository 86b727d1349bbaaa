"""Programs as ONNX graphs: modules exported once, then joined where no module is repeated."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..program import Call, Program

if TYPE_CHECKING:
    import onnx

# Protobuf's, of which a model is one message, less some room for the graph [byte].
LARGEST_MODEL = 2_100_000_000

# Exports of each module by parameter names, and the weights that they were made from.
_exports: WeakKeyDictionary[nn.Module, dict[tuple[str, ...], tuple[bytes, onnx.ModelProto]]] = (
    WeakKeyDictionary()
)


def refuse_too_large(program: Program, joined: bool) -> None:
    """Raise ValueError if a program's weights are too many for ONNX, before anything is exported.

    Args:
        program: The program.
        joined: Whether it becomes one model, in which weights that modules share are once.
    """
    modules = {id(call.module): call.module for call in program.calls}
    models = [list(modules.values())] if joined else [[one] for one in modules.values()]
    size = max(_num_bytes(one) for one in models)
    if size > LARGEST_MODEL:
        raise ValueError(
            f"the network's weights take {size / 1e9:.1f} GB, and an ONNX model holds at most "
            f"{LARGEST_MODEL / 1e9:.1f} GB; run it with engine eager, compile or cuda-graph, or "
            "export it with format=torch-export"
        )


def _num_bytes(modules: Iterable[nn.Module]) -> int:
    """Size of the weights of some modules, each once [byte]."""
    weights = {
        id(one): one for module in modules for one in module.state_dict(keep_vars=True).values()
    }
    return sum(one.nbytes for one in weights.values())


def export_call(call: Call, values: Mapping[str, Tensor]) -> onnx.ModelProto:
    """Export the module of a call for any number of rows, its constants being inputs as well.

    Exporting takes seconds, so a module is exported once; one whose weights have changed since
    then is exported again.

    Args:
        call: What to export; its inputs are named like the parameters, its outputs as `call` says.
        values: Memory of a run of two rows: the exporter takes a size of 1 for a constant.
    """
    # Copies, because the exporter takes two arguments that are one tensor for one argument.
    inputs = {name: values[source].clone() for name, source in call.arguments.items()}
    known, weights = _exports.setdefault(call.module, {}), _digest(call.module)
    signature = tuple([*inputs, *call.constants])
    if signature not in known or known[signature][0] != weights:
        known[signature] = weights, _export(call, inputs)
    return known[signature][1]


def export_program(program: Program, values: Mapping[str, Tensor]) -> onnx.ModelProto:
    """Join the calls of a program into one graph from its inputs to its outputs.

    What depends on constants alone is computed when a runtime loads the graph. Weights that several
    calls use are in it once.
    """
    from onnx import ModelProto, ValueInfoProto, numpy_helper

    joined = ModelProto()
    joined.CopyFrom(export_call(program.calls[0], values))
    joined.ClearField("graph")
    joined.graph.name = "program"
    weights = JoinedWeights(joined.graph)
    ports: dict[str, onnx.ValueInfoProto] = {}
    for index, call in enumerate(program.calls):
        graph = export_call(call, values).graph
        names = dict(call.arguments) | _results(call)
        for port in (*graph.input, *graph.output):
            if port.name in names:
                copied = ports[names[port.name]] = ValueInfoProto()
                copied.CopyFrom(port)
                copied.name = names[port.name]
        _append(joined.graph, graph, names, weights, prefix=f"{index}.")
        for name, value in call.constants.items():
            tensor = numpy_helper.from_array(value.cpu().numpy(), f"{index}.{name}")
            joined.graph.initializer.append(tensor)
    joined.graph.input.extend(ports[name] for name in program.inputs)
    joined.graph.output.extend(ports[name] for name in program.outputs)
    return joined


class JoinedWeights:
    """Weights of a graph that is being joined, each content once.

    Args:
        target: The graph.
    """

    def __init__(self, target: onnx.GraphProto) -> None:
        self._target = target
        self._names: dict[object, str] = {}
        # Kept, since a graph is known by its id, which another one may have when it is gone.
        self._graphs: list[onnx.GraphProto] = []

    def add(self, graph: onnx.GraphProto, prefix: str) -> dict[str, str]:
        """Copy a graph's weights; returns their names in the target."""
        self._graphs.append(graph)
        return {tensor.name: self._add(graph, tensor, prefix) for tensor in graph.initializer}

    def _add(self, graph: onnx.GraphProto, tensor: onnx.TensorProto, prefix: str) -> str:
        # A module's export is one object, so that most repetitions are known unread.
        seen = id(graph), tensor.name
        if seen in self._names:
            return self._names[seen]
        digest = hashlib.blake2b(tensor.raw_data).digest()
        content = tuple(tensor.dims), tensor.data_type, digest
        if not tensor.raw_data or content not in self._names:
            copied = self._target.initializer.add()
            copied.CopyFrom(tensor)
            copied.name = self._names[content] = prefix + tensor.name
        self._names[seen] = self._names[content]
        return self._names[seen]


def _append(
    target: onnx.GraphProto,
    graph: onnx.GraphProto,
    names: Mapping[str, str],
    weights: JoinedWeights,
    prefix: str,
) -> None:
    """Copy nodes and weights; ports get the names in `names`, everything else a prefix."""
    known = {**weights.add(graph, prefix), **names}

    def renamed(name: str) -> str:
        return known.get(name, prefix + name) if name else name

    for node in graph.node:
        copied = target.node.add()
        copied.CopyFrom(node)
        copied.name = prefix + node.name
        copied.input[:] = [renamed(name) for name in node.input]
        copied.output[:] = [renamed(name) for name in node.output]


def _results(call: Call) -> dict[str, str]:
    """Names of an export's outputs -> names in memory."""
    return {f"result_{index}": name for index, name in enumerate(call.outputs)}


def _export(call: Call, inputs: Mapping[str, Tensor]) -> onnx.ModelProto:
    rows = torch.export.Dim("rows")
    arguments = {**inputs, **call.constants}
    with _quiet():
        program = torch.onnx.export(
            call.module,
            kwargs=arguments,
            input_names=list(arguments),
            output_names=list(_results(call)),
            dynamic_shapes={name: {0: rows} if name in inputs else None for name in arguments},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _digest(module: nn.Module) -> bytes:
    digest = hashlib.blake2b()
    for value in (*module.parameters(), *module.buffers()):
        digest.update(value.detach().contiguous().cpu().numpy().data)
    return digest.digest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' remarks about themselves from the user, whatever root logs."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
