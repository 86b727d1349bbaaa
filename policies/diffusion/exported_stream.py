"""A streaming policy as graphs: one that starts an episode, and one for each trained latency."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...decoding import ActionSpec
from ..export.parts import START, STEP, Exportable, Graph
from ..programs.program import Call, Port, Program
from .config import StreamingSampling
from .encoding import VECTORS
from .exported import frame_graphs, pure
from .model import DiffusionModel
from .start import start_program
from .stream_state import Begin, FirstChunk, Noised, Past, Remember, Resume, Stay
from .streaming import StreamingDiffusionPolicy

EXECUTED, OLD_EXECUTED = "executed", "old_executed"
BUFFER, OLD_BUFFER = "buffer", "old_buffer"
START_NOISE, PAST_NOISE = "start_noise", "past_noise"


def export_streaming(
    model: DiffusionModel, action_spec: ActionSpec, sampling: StreamingSampling
) -> Exportable:
    """A Streaming Diffusion Policy as graphs.

    Raises:
        ValueError: If the choices do not fit the model.
    """
    return _Stream(model, action_spec, sampling).exportable()


class _Stream:
    """The graphs of one policy.

    Args:
        model: Trained model.
        action_spec: Names, bounds and period of the actions.
        sampling: How it is sampled.
    """

    def __init__(
        self, model: DiffusionModel, action_spec: ActionSpec, sampling: StreamingSampling
    ) -> None:
        self.model, self.sampling = model, sampling
        self.policy = StreamingDiffusionPolicy(model, action_spec, sampling)
        self.emit, self.ladder = self.policy.emit, self.policy.ladder
        remembers = model.config.max_latency > 0 or self.emit.needs_past
        self.length = model.num_past + model.config.max_latency if remembers else 0

    def exportable(self) -> Exportable:
        """All graphs and the state that they hand on."""
        graphs = frame_graphs(self.model)
        for late in range(self.model.config.max_latency + 1):
            graphs[f"{STEP}-{late}" if late else STEP] = self._step(late)
        graphs[START] = self._sampled() if self.sampling.start == "denoise" else self._guessed()
        state = {BUFFER: self.model.window_shape}
        state_input = {"x": BUFFER, OLD_BUFFER: BUFFER}
        if self.length:
            state[EXECUTED] = (self.length, self.model.action_dim)
            state_input[OLD_EXECUTED] = EXECUTED
        return Exportable(
            graphs,
            self.model.config.num_obs_steps,
            self.policy.num_execute,
            state,
            state_input,
            from_observation=False,
        )

    def _step(self, late: int) -> Graph:
        """A control step whose plan begins `late` steps after the observation."""
        program, names = pure(self.model, self.policy.program_at(late))
        noise = (*names, "fresh")
        inputs, calls = dict(program.inputs), list(program.calls)
        ladder, normalizer = self.ladder.delayed(late), self.model.action_normalizer
        if self.length:
            inputs[OLD_EXECUTED] = self._executed_port(program)
        if "past" in inputs:
            del inputs["past"]
            past = Past(normalizer, ladder.num_past, late).eval()
            calls.insert(0, Call(past, {"executed": OLD_EXECUTED}, ("past",)))
        if late:
            inputs[OLD_BUFFER] = inputs.pop("x")
            inputs[PAST_NOISE] = Port((ladder.num_past, self.model.window_shape[1]))
            arguments = {"executed": OLD_EXECUTED, "buffer": OLD_BUFFER, "noise": PAST_NOISE}
            calls.insert(0, Call(Resume(self.model, ladder).eval(), arguments, ("x",)))
            noise = (PAST_NOISE, *noise)
        program = replace(program, inputs=inputs, calls=calls)
        return Graph(self._remembering(program, late), noise, late, self._levels(late))

    def _sampled(self) -> Graph:
        """A start that samples a whole window from noise."""
        program, names = pure(self.model, start_program(self.model, self.ladder, self.sampling))
        first = FirstChunk(self.model, self.ladder, self.emit).eval()
        arguments = {"clean": "window", "noise": START_NOISE, "fresh": "fresh"}
        calls = [*program.calls, Call(first, arguments, (BUFFER, "actions"))]
        step = self.policy.program
        inputs = {
            **program.inputs,
            START_NOISE: program.inputs["x"],
            "fresh": step.inputs["fresh"],
        }
        outputs = {name: step.outputs[name] for name in (BUFFER, "actions")}
        if self.length:
            calls.insert(-1, self._begin("window"))
        program = Program(inputs, outputs, calls, program.num_calls)
        noise = ("x", *names, START_NOISE, "fresh")
        return Graph(self._remembering(program, late=0), noise, None, self._levels(0))

    def _guessed(self) -> Graph:
        """A start from a guessed window, noised to the ladder: a control step of it."""
        step = self._step(late=0)
        inputs, place = dict(step.program.inputs), self._place()
        inputs[START_NOISE] = inputs.pop("x")
        arguments = {"noise": START_NOISE}
        if place is not None:
            arguments["observation"] = VECTORS
        noised = Noised(self.model, self.ladder.levels()).eval()
        calls = [
            Call(Stay(self.model, place).eval(), arguments, ("guess",)),
            Call(noised, {"clean": "guess", "noise": START_NOISE}, ("x",)),
        ]
        if self.length:
            del inputs[OLD_EXECUTED]
            calls.append(self._begin("guess"))
        calls += step.program.calls
        program = replace(step.program, inputs=inputs, calls=calls)
        return Graph(program, (START_NOISE, *step.noise), None, step.noise_level)

    def _place(self) -> slice | None:
        """Where the position that is guessed to stay stands among a frame's vectors."""
        if self.sampling.start == "zero":
            return None
        begin = 0
        for key in self.model.vector_keys:
            if key == self.sampling.start_key:
                return slice(begin, begin + self.model.action_dim)
            begin += int(np.prod(self.model.observation_shapes[key]))
        raise ValueError(f"start_key {self.sampling.start_key!r} is a picture, not a position")

    def _begin(self, window: str) -> Call:
        begin = Begin(self.model.action_normalizer, self.length, self.model.num_past).eval()
        return Call(begin, {"clean": window}, (OLD_EXECUTED,))

    def _remembering(self, program: Program, late: int) -> Program:
        """A program that hands on what is executed of its actions, if anybody needs that."""
        if not self.length:
            return program
        *calls, last = program.calls
        calls.append(replace(last, outputs=(BUFFER, "planned")))
        remember = Remember(late, self.policy.num_execute)
        arguments = {"executed": OLD_EXECUTED, "planned": "planned"}
        calls.append(Call(remember, arguments, (EXECUTED, "actions")))
        outputs = {**program.outputs, EXECUTED: self._executed_port(program)}
        return replace(program, outputs=outputs, calls=calls)

    def _executed_port(self, program: Program) -> Port:
        actions = program.outputs["actions"]
        return replace(actions, shape=(self.length, self.model.action_dim))

    def _levels(self, late: int) -> np.ndarray:
        """How noisy the planned actions are: clean ones, then the buffer as it stands."""
        ladder = self.ladder.delayed(late)
        levels = ladder.levels(ladder.levels_per_step)[ladder.num_past :]
        return levels / ladder.num_levels
