"""Engines that run a program as prepared calls on memory that never moves.

A compiled network of this size takes a fraction of a millisecond, so what surrounds it counts:
here every input and output of every call is bound to its array once per number of rows, and a
control step copies the observation in, runs the calls, and copies the actions out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..program import Encode, ReverseProgram

Call = Callable[[], object]


class Function(Protocol):
    """A compiled function of named arrays to one array."""

    def bind(self, inputs: Mapping[str, np.ndarray], output: np.ndarray) -> Call:
        """Return a call that reads `inputs` and writes `output` in place, as often as wanted."""
        ...


class Graphs(Protocol):
    """The functions of one model, compiled by one runtime, for any number of rows R."""

    def encode(self) -> Function:
        """Compile `Encode`: observation -> observation_modulation."""
        ...

    def step(self) -> Function:
        """Compile `ReverseStep`, inputs named as there -> next_x; constants are inputs."""
        ...

    def single(self, level_modulation: Tensor, coefficients: Tensor | None) -> Function:
        """Compile both in a row with built-in constants: observation, x -> next_x."""
        ...


@dataclass(frozen=True)
class BoundProgram:
    """The calls of a program on fixed memory.

    Attributes:
        observation: Input, shape (R, To, O).
        x: Input, shape (R, H, D).
        calls: One per network call.
        states: Where each of them leaves its result, shape (R, H, D) each.
    """

    observation: np.ndarray
    x: np.ndarray
    calls: list[Call]
    states: list[np.ndarray]


class BoundEngine:
    """Runs a reverse program with one runtime's compiled functions.

    A program of one call becomes one function whose constants are part of the graph. A longer one
    runs a single compiled step again and again, its constants being inputs.

    Args:
        program: What to run.
        graphs: The model's functions.
    """

    def __init__(self, program: ReverseProgram, graphs: Graphs) -> None:
        self.parity = float("nan")
        self._program = program
        self._bound: dict[int, BoundProgram] = {}
        scale = program.noise_scale
        self._noise_scale = None if scale is None else scale.numpy()
        if program.num_calls == 1:
            constants = program.level_modulations[0], program.coefficients[0]
            self._single = graphs.single(*constants)
            return
        self._single = None
        self._encode, self._step = graphs.encode(), graphs.step()
        self._constants = [
            {"level_modulation": level.contiguous().numpy(), "coefficients": step.numpy()}
            for level, step in zip(program.level_modulations, program.coefficients, strict=True)
            if step is not None
        ]

    def __call__(
        self, observation: np.ndarray, x: np.ndarray, noise: np.ndarray | None = None
    ) -> np.ndarray:
        """Run all calls; see `Engine`."""
        bound = self._bound.get(len(x)) or self._bind(len(x))
        bound.observation[...] = observation
        bound.x[...] = x
        if noise is None or self._noise_scale is None:
            for call in bound.calls:
                call()
        else:
            scaled = self._noise_scale * noise
            for call, state, increment in zip(bound.calls, bound.states, scaled, strict=True):
                call()
                state += increment
        return bound.states[-1].copy()

    def _bind(self, rows: int) -> BoundProgram:
        model = self._program.model
        config, observation_dim = model.config, len(model.observation_normalizer.scale)
        observation = np.zeros((rows, config.num_obs_steps, observation_dim), np.float32)
        x = np.zeros((rows, config.horizon, model.action_dim), np.float32)
        other = np.zeros_like(x)
        if self._single is not None:
            calls = [self._single.bind({"observation": observation, "x": x}, other)]
        else:
            calls = self._bind_steps(observation, x, other)
        # The two buffers take turns as input and output of a call.
        states = [x if index % 2 else other for index in range(len(calls))]
        bound = self._bound[rows] = BoundProgram(observation, x, calls, states)
        return bound

    def _bind_steps(self, observation: np.ndarray, x: np.ndarray, other: np.ndarray) -> list[Call]:
        with torch.no_grad():
            shape = Encode(self._program.model)(torch.from_numpy(observation)).shape
        modulation = np.zeros(shape, np.float32)
        encode = self._encode.bind({"observation": observation}, modulation)
        steps = []
        for index in range(self._program.num_calls):
            source, target = (other, x) if index % 2 else (x, other)
            inputs = {"observation_modulation": modulation, "x": source, **self._constants[index]}
            steps.append(self._step.bind(inputs, target))
        first = steps[0]

        def encode_and_step() -> None:
            encode()
            first()

        return [encode_and_step, *steps[1:]]
