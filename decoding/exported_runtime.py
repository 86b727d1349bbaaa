"""Runs what `hotloop export` wrote: numpy and ONNX Runtime are all it needs.

A copy of this file lies in every exported folder; hotloop itself runs such folders with it.

    from hotloop_runtime import Runtime

    robot = Runtime("OUT")
    robot.reset(seed=0)
    action = robot.act({"observation.state": state})  # (D,), physical units; every `robot.dt` [s]

The graphs are pure functions of observation, state and noise; frames and state are kept here.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FORMAT, FORMAT_VERSION, POLICY_FILE = "hotloop.policy", 1, "policy.json"
FEATURES = "features"
_POOL = 4096  # numbers drawn at a time; a call to a generator costs more than a hundred of them
Array = np.ndarray
Run = Callable[[], object]


class Memory(NamedTuple):
    """Arrays that never move, shape (R, ...) each: `run` reads `inputs` and writes `outputs`."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    run: Run


class OnnxFunction:
    """One ONNX graph, loaded by ONNX Runtime.

    Args:
        graph: Serialised ONNX model, or its file.
        threads: Threads of one run.
    """

    runtime = "onnx"

    def __init__(self, graph: str | bytes, threads: int) -> None:
        onnxruntime: Any = import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Threads that spin while they wait starve whatever else the robot's cores have to do.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(graph, options, providers=providers)
        self._alive: list[object] = []

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Run:
        """Return a call that reads `inputs` and writes `outputs`, as often as wanted.

        Outputs are in the graph's order.
        """
        binding = self._session.io_binding()
        # On a CPU these share the arrays' memory instead of copying it.
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, self._value(array))
        for port, array in zip(self._session.get_outputs(), outputs.values(), strict=True):
            binding.bind_ortvalue_output(port.name, self._value(array))
        self._alive.append((inputs, outputs))
        return partial(self._session.run_with_iobinding, binding)


class RowNoise:
    """One random generator per row, whose numbers are drawn in advance."""

    def __init__(self) -> None:
        self._generators: dict[int, np.random.Generator] = {}
        self._pools: dict[int, Array] = {}
        self._cursors: dict[int, int] = {}

    def reset(self, seeds: Array, rows: Array | None) -> None:
        """Seed the generators of `rows`; without `rows`, make one per seed."""
        if rows is None:
            self._generators, self._pools, self._cursors = {}, {}, {}
            rows = np.arange(len(seeds))
        for row, seed in zip(rows.tolist(), seeds.tolist(), strict=True):
            self._generators[row] = np.random.Generator(np.random.SFC64(seed))
            self._pools[row], self._cursors[row] = np.empty(0, np.float32), 0

    def fill(self, rows: Array, out: Array) -> None:
        """Write standard normal noise to `out`, shape (len(rows), ...), float32."""
        size, num, cursors = out[0].size, max(_POOL, out[0].size), self._cursors
        for row, noise in zip(rows.tolist(), out, strict=True):
            if row not in cursors:
                check_reset(rows, len(cursors))
            begin = cursors[row]
            end = cursors[row] = begin + size
            if end > len(self._pools[row]):
                # What is left of the old pool is dropped.
                self._pools[row] = self._generators[row].standard_normal(num, np.float32)
                begin, end = 0, size
                cursors[row] = size
            noise.flat = self._pools[row][begin:end]


def check_reset(rows: Array, num_rows: int) -> None:
    """Raise ValueError unless `reset` has made all of `rows`."""
    if len(rows) and not 0 <= rows.min() <= rows.max() < num_rows:
        made = f"reset has made {num_rows} rows, and a plan is asked for rows {rows.tolist()}"
        raise ValueError(f"{made}; call reset(seeds) first, with one seed per row")


def seal_of(about: Mapping[str, Any]) -> str:
    """Digest of what ``policy.json`` says, whose ``seal`` it is."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def read_about(folder: Path) -> dict[str, Any]:
    """Content of an exported folder's ``policy.json``; see `Plans`."""
    path = folder / POLICY_FILE
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = about["format"], about["format_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged, export the policy again: {error!r}") from error
    if found != (FORMAT, FORMAT_VERSION):
        raise ValueError(f"{path} is {found}, not {(FORMAT, FORMAT_VERSION)}: export anew")
    if about.pop("seal", seal_of(about)) != seal_of(about):  # the first exports had none
        raise ValueError(f"{path} was changed, its graphs were not: export anew")
    return about


def _allocate(ports: Any, rows: int) -> dict[str, Array]:
    """Arrays of some inputs or outputs that ``policy.json`` lists."""
    return {one["name"]: np.zeros((rows, *one["shape"]), one["dtype"]) for one in ports}


class Plans:
    """What an exported policy plans, for any number of rows: robots or environments.

    Args:
        folder: What `hotloop export` wrote; `about` is its ``policy.json``.
        threads: Threads of one run.
        function: What loads a graph.

    Raises:
        FileNotFoundError: If it is no such folder, or a file of it is missing.
        ValueError: If it is damaged, of another format version, or for another runtime.
    """

    def __init__(self, folder: str | Path, threads: int = 1, function: Any = OnnxFunction) -> None:
        self._folder, self.about = Path(folder), read_about(Path(folder))
        if (held := self.about["runtime"]) != function.runtime:
            raise ValueError(f"{folder} holds graphs for {held}, not for {function.runtime}")
        for file, digest in self.about["files"].items():
            path = self._folder / file
            content = np.memmap(path, "u1", "r").data if path.stat().st_size else b""
            if hashlib.sha256(content).hexdigest() != digest:
                raise ValueError(f"{path} is damaged, export the policy again")
        graphs, self._modules = self.about["graphs"], self.about["modules"]
        self._functions = {
            name: function(str(self._folder / one["file"]), threads)
            for name, one in {**self._modules, **graphs}.items()
            if "file" in one
        }
        self._steps = [name for name, one in graphs.items() if "late" in one]
        self._memories: dict[tuple[str, int], Memory] = {}
        self._noise, self._next, self._state = RowNoise(), list[int](), dict[str, Array]()

    def reset(self, seeds: Array, rows: Array | None = None) -> None:
        """Start an episode in each of `rows`; without `rows`, in ``len(seeds)`` new ones."""
        self._noise.reset(seeds, rows)
        if rows is None:
            shapes, num = self.about["state"], len(seeds)
            self._state = {name: np.zeros((num, *one), np.float32) for name, one in shapes.items()}
            self._next = [-1] * num
        for row in range(0) if rows is None else rows.tolist():
            self._next[row] = -1

    def choose(self, row: int, step: int, observed: int) -> str:
        """The graph that plans from `step` on for a row whose newest frame is from `observed`."""
        check_reset(np.array([row]), len(self._next))
        if self._next[row] != step and "start" in self.about["graphs"]:
            return "start"
        return self._steps[min(step - observed, len(self._steps) - 1)]

    def plan(self, name: str, observation: Mapping[str, Array], rows: Array, step: Array) -> Array:
        """Actions (R, F, D) that a graph plans for `rows` (R,) from `step` (R,) on.

        Args:
            name: The graph, see `choose`.
            observation: Its inputs of the newest frames: ``observation``, and what `encode` says.
            rows: Which row each entry belongs to.
            step: First control step that still needs an action.
        """
        memory, source = self.memory(name, len(rows)), self.about["state_input"]
        for key, array in memory.inputs.items():
            if key in observation:
                array[...] = observation[key]
            elif key in source:
                array[...] = self._state[source[key]][rows]
        for key in self.about["noise"][name]:
            self._noise.fill(rows, memory.inputs[key])
        memory.run()
        for key, state in self._state.items():
            state[rows] = memory.outputs[key]
        for row, first in zip(rows.tolist(), step.tolist(), strict=True):
            self._next[row] = first + self.about["num_execute"]
        return np.array(memory.outputs["actions"])

    def encode(self, pictures: Mapping[str, Array]) -> Mapping[str, Array]:
        """What plans are told of one frame of every camera, shape (R, H, W, 3), uint8, each."""
        if "frame" not in self.about["graphs"]:
            return pictures
        memory = self.memory("frame", len(next(iter(pictures.values()))))
        for key, array in memory.inputs.items():
            array[...] = pictures[key]
        memory.run()
        return {FEATURES: np.array(memory.outputs[FEATURES])}

    def memory(self, name: str, rows: int) -> Memory:
        """Memory of a graph, the same at every call."""
        if (name, rows) not in self._memories:
            graph = self.about["graphs"][name]
            inputs, outputs = (_allocate(graph[ports], rows) for ports in ("inputs", "outputs"))
            if "file" in graph:
                run = self._functions[name].bind(inputs, outputs)
            else:
                run = self._chain(graph["calls"], {**inputs, **outputs}, rows)
            self._memories[name, rows] = Memory(inputs, outputs, run)
        return self._memories[name, rows]

    def _chain(self, calls: Any, arrays: dict[str, Array], rows: int) -> Run:
        """A graph of too many calls for one file: modules that are called one after the other."""
        runs: list[Run] = []
        for call in calls:
            made = _allocate(self._modules[call["module"]]["outputs"], rows).values()
            for name, array in zip(call["outputs"], made, strict=True):
                arrays.setdefault(name, array)
            outputs = {name: arrays[name] for name in call["outputs"]}
            inputs = {name: arrays[source] for name, source in call["inputs"].items()}
            for name, place in call["constants"].items():
                file, shape = self._folder / place["file"], tuple(place["shape"])
                inputs[name] = np.array(np.memmap(file, "<f4", "r", place["offset"], shape))
            runs.append(self._functions[call["module"]].bind(inputs, outputs))
        return lambda: [run() for run in runs]


class Runtime:
    """One robot: keeps the newest frames and `planned`, the actions to come, `dt` [s] apart."""

    def __init__(self, folder: str | Path, threads: int = 1, function: Any = OnnxFunction) -> None:
        self._plans = Plans(folder, threads, function)
        self.about = about = self._plans.about
        self.dt: float = about["dt"]
        self._num_steps, self._num_execute = about["num_obs_steps"], about["num_execute"]
        self._spec = {k["key"]: (tuple(k["shape"]), k["dtype"]) for k in about["observation"]}
        self.reset()

    def reset(self, seed: int = 0) -> None:
        """Start an episode."""
        self._plans.reset(np.array([seed]))
        self._frames: deque[dict[str, Array]] = deque(maxlen=self._num_steps)
        self.planned: deque[Array] = deque()
        self._step = 0

    def act(self, frame: Mapping[str, Any]) -> Array:
        """The next action (D,) after an observation by key; ValueError if either is unfit."""
        values = {key: self._read(frame, key) for key in self._spec}
        vectors = [value.ravel() for value in values.values() if value.dtype != np.uint8]
        pictures = {key: value[None] for key, value in values.items() if value.dtype == np.uint8}
        newest = {"observation": np.concatenate(vectors)} if vectors else {}
        if len(self.planned) < self._num_steps:  # else no plan will see it
            newest |= {key: one[0] for key, one in self._plans.encode(pictures).items()}
        self._frames.extend([newest] * (1 if self._frames else self._num_steps))
        if not self.planned:
            seen = {key: np.stack([one[key] for one in self._frames])[None] for key in newest}
            graph = self._plans.choose(0, self._step, self._step)
            (actions,) = self._plans.plan(graph, seen, np.arange(1), np.array([self._step]))
            if not np.isfinite(actions).all():
                raise ValueError(f"the policy planned NaN or infinite actions: {actions}")
            self.planned.extend(actions[: self._num_execute])
        self._step += 1
        return self.planned.popleft()

    def _read(self, frame: Mapping[str, Any], key: str) -> Array:
        if key not in frame:
            raise ValueError(f"observation {key!r} is missing; expected {list(self._spec)}")
        shape, dtype = self._spec[key]
        values = np.asarray(frame[key], None if dtype == "uint8" else dtype)
        if values.shape != shape or values.dtype != dtype or not np.isfinite(values).all():
            found = f"{values.shape} and {values.dtype}"
            raise ValueError(f"{key!r} must be finite, {shape} and {dtype}, got {found}")
        return values
