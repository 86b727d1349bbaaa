"""Streaming Diffusion Policy (arXiv 2406.04806): a rolling buffer whose noise grows along time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ..decoding import ActionSpec, ActionTrajectory, Observation
from ..decoding.rolling import Ladder, advance
from ..decoding.samplers import spaced_levels
from .diffusion import ActionHead, write_noise
from .engines.engine import Engine, make_engine
from .model import DiffusionModel
from .program import Call, Port, Program
from .reverse import Physical, noise_names, reverse_program
from .rows import RowNoise, selection
from .sampling import SamplingConfig

NOT_STARTED = -1


class Emit(nn.Module):
    """End of a control step: take the clean chunk out, bring the rest back to the ladder's start.

    Args:
        model: Trained model.
        ladder: Levels of the buffer.
        physical: Normalised window to physical actions.
    """

    def __init__(self, model: DiffusionModel, ladder: Ladder, physical: Physical) -> None:
        super().__init__()
        self.ladder, self.physical = ladder, physical
        # Executed actions are noised again: the network was trained on past slots at that level.
        alpha_bar = model.schedule.alpha_bar[ladder.levels()[0]]
        self.signal, self.sigma = float(np.sqrt(alpha_bar)), float(np.sqrt(1 - alpha_bar))

    @property
    def needs_past(self) -> bool:
        """Whether past slots reach back beyond the chunk that a control step executes."""
        return self.ladder.num_past > self.ladder.num_execute

    def forward(
        self, window: Tensor, fresh: Tensor, past: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return the next buffer (R, H, D), physical actions and, if needed, the next past.

        Args:
            window: Normalised buffer at the end of the control step, shape (R, H, D).
            fresh: Standard normal, shape (R, To - 1 + Ta, D): for the past slots and the new chunk.
            past: Last executed actions before it, normalised, shape (R, To - 1, D), if needed.
        """
        num_past, chunk = self.ladder.num_past, self.ladder.num_execute
        executed = window[:, num_past : num_past + chunk]
        if past is not None:
            executed = torch.cat([past, executed], dim=1)
        executed = executed[:, executed.shape[1] - num_past :]
        noised = self.signal * executed + self.sigma * fresh[:, :num_past]
        buffer = advance(window, noised, fresh[:, num_past:])
        actions = self.physical(window)
        return (buffer, actions) if past is None else (buffer, actions, executed)


class StreamingDiffusionPolicy:
    """One chunk of actions per plan, from a buffer that keeps its partly denoised future.

    Args:
        model: Trained model.
        action_spec: Names, bounds and period of the actions.
        sampling: Chunk size, network calls per control step and start buffer.
        engine: How the network runs; see `engines`.
    """

    def __init__(
        self,
        model: DiffusionModel,
        action_spec: ActionSpec,
        sampling: SamplingConfig,
        engine: str = "eager",
    ) -> None:
        self.action_spec, self.model = action_spec, model
        self.num_execute = sampling.num_execute
        self._sampling = sampling
        self._head = ActionHead(model, action_spec)
        self.observation_spec = self._head.observation_spec
        self.ladder = model.ladder(self.num_execute)
        calls = sampling.calls_per_step or self.ladder.rung
        self._emit = Emit(model, self.ladder, self._head.physical).eval()
        levels = self.ladder.control_step(calls)
        self.program = self._stream(reverse_program(model, levels, sampling.update))
        self._noise_names = noise_names(self.program)
        self._engine: Engine = make_engine(engine, self.program)
        start = self._start_program(calls)
        self._start_names = noise_names(start) if start else []
        self._start_engine = make_engine(engine, start) if start else None
        self._signal = np.sqrt(model.schedule.alpha_bar).astype(np.float32)
        self._sigma = np.sqrt(1 - model.schedule.alpha_bar).astype(np.float32)
        # The buffer's own noise levels, as published with each plan: 0 for the emitted chunk.
        future = self.ladder.levels(self.ladder.rung)[model.num_past :]
        self._noise_level = (future / model.config.num_levels).astype(np.float32)
        self._noise = RowNoise()
        self._buffer = np.zeros((0, *self._head.window_shape), np.float32)
        self._past = np.zeros((0, model.num_past, model.action_dim), np.float32)
        self._next_step: list[int] = []
        self._templates: dict[int, ActionTrajectory] = {}

    def _stream(self, program: Program) -> Program:
        """Let a program take the buffer to its next control step."""
        num_past, size = self.ladder.num_past, self.model.action_dim
        inputs = {**program.inputs, "fresh": Port((num_past + self.num_execute, size))}
        outputs = {"buffer": program.outputs["window"], "actions": self._head.actions}
        arguments = {"window": "window", "fresh": "fresh"}
        if self._emit.needs_past:
            arguments["past"] = "past"
            inputs["past"] = outputs["next_past"] = Port((num_past, size))
        call = Call(self._emit, arguments, tuple(outputs))
        return replace(program, inputs=inputs, outputs=outputs, calls=[*program.calls, call])

    def _start_program(self, calls: int) -> Program | None:
        sampling, model = self._sampling, self.model
        if sampling.start == "constant" and sampling.start_key not in model.observation_shapes:
            raise ValueError(
                "start 'constant' needs start_key, the observation that holds the current position "
                f"in action units; expected one of {sorted(model.observation_shapes)}, "
                f"got {sampling.start_key!r}"
            )
        if sampling.start != "denoise":
            return None
        num_levels = model.config.num_levels
        start_calls = sampling.start_calls or min(self.ladder.num_chunks * calls, num_levels)
        levels = spaced_levels(num_levels, 0, start_calls)
        vectors = [np.full(model.config.horizon, level) for level in levels]
        return reverse_program(model, vectors, sampling.update)

    @property
    def parity(self) -> float:
        """Largest difference of the engine from eager PyTorch, in normalised action units."""
        return self._engine.parity

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`: their buffers are forgotten; see `Policy.reset`."""
        self._noise.reset(seeds, rows)
        if rows is None:
            self._buffer = np.zeros((len(seeds), *self._buffer.shape[1:]), np.float32)
            self._past = np.zeros((len(seeds), *self._past.shape[1:]), np.float32)
            self._next_step = [NOT_STARTED] * len(seeds)
            return
        for row in rows.tolist():
            self._next_step[row] = NOT_STARTED

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Advance each row's buffer by one control step; see `Policy.plan`.

        The first Ta actions are clean; the rest of the trajectory is the buffer as it stands, with
        its noise levels. A row whose `step` does not continue its buffer starts anew.
        """
        rows, steps = observation.rows.tolist(), step.tolist()
        starting = [self._next_step[row] != first for row, first in zip(rows, steps, strict=True)]
        if not any(starting):
            actions = self._continue(observation)
        elif all(starting):
            actions = self._start(observation)
        else:
            actions = np.empty((len(rows), *self._head.actions.shape), np.float32)
            mask = np.array(starting)
            for chosen, advance_rows in ((mask, self._start), (~mask, self._continue)):
                actions[chosen] = advance_rows(observation.select(np.flatnonzero(chosen)))
        for row, first in zip(rows, steps, strict=True):
            self._next_step[row] = first + self.num_execute
        return self._template(len(rows)).following(actions, step, observation.step)

    def _template(self, num_rows: int) -> ActionTrajectory:
        """A plan of so many rows that lends its noise levels to all the others."""
        if num_rows not in self._templates:
            levels = np.tile(self._noise_level, (num_rows, 1))
            actions, steps = (
                np.zeros((num_rows, *self._head.actions.shape)),
                np.zeros(num_rows, int),
            )
            self._templates[num_rows] = ActionTrajectory(
                actions, steps, steps, self.action_spec.dt, levels, np.ones(levels.shape, bool)
            )
        return self._templates[num_rows]

    def _continue(self, observation: Observation) -> np.ndarray:
        """One control step of rows whose buffers stand at the start of the ladder."""
        rows, memory = observation.rows, self._engine.memory(len(observation.rows))
        chosen = selection(rows, len(self._buffer))
        self._head.join_frames(observation, memory.inputs["observation"])
        memory.inputs["x"][...] = self._buffer[chosen]
        if self._emit.needs_past:
            memory.inputs["past"][...] = self._past[chosen]
        write_noise(self._noise, rows, memory, self._noise_names)
        self._noise.fill(rows, memory.inputs["fresh"])
        memory.run()
        self._buffer[chosen] = memory.outputs["buffer"]
        if self._emit.needs_past:
            self._past[chosen] = memory.outputs["next_past"]
        return memory.outputs["actions"].copy()

    def _start(self, observation: Observation) -> np.ndarray:
        """Give each row a first chunk and a buffer at the start of the ladder."""
        rows = observation.rows
        if self._start_engine is None:
            clean = self._prior(observation)
            self._past[rows] = clean[:, : self.ladder.num_past]
            self._buffer[rows] = self._noised(rows, clean, self.ladder.levels())
            return self._continue(observation)
        memory = self._start_engine.memory(len(rows))
        self._head.join_frames(observation, memory.inputs["observation"])
        self._noise.fill(rows, memory.inputs["x"])
        write_noise(self._noise, rows, memory, self._start_names)
        memory.run()
        clean = memory.outputs["window"]
        # The whole window is clean: its first chunk is executed now, without further calls, and
        # the later ones are noised to where they must stand one control step on.
        window = self._noised(rows, clean, self.ladder.levels(self.ladder.rung))
        fresh = self._noise.draw(rows, (self.ladder.num_past + self.num_execute, clean.shape[2]))
        parts = [window, fresh]
        if self._emit.needs_past:
            parts.append(clean[:, : self.ladder.num_past].copy())
        with torch.inference_mode():
            emitted = self._emit(*(torch.from_numpy(part) for part in parts))
        self._buffer[rows], actions = emitted[0].numpy(), emitted[1].numpy()
        if self._emit.needs_past:
            self._past[rows] = emitted[2].numpy()
        return actions

    def _prior(self, observation: Observation) -> np.ndarray:
        """Clean guess of the window before anything is known: zeros, or staying where it is."""
        horizon, size = self._head.window_shape
        if self._sampling.start == "zero":
            return np.zeros((len(observation.rows), horizon, size), np.float32)
        position = self._head.features(observation, self._sampling.start_key)[:, :size]
        normalizer = self.model.action_normalizer
        with torch.inference_mode():
            normalised = normalizer(torch.from_numpy(position)).numpy()
        return np.repeat(normalised[:, None], horizon, axis=1)

    def _noised(self, rows: np.ndarray, clean: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Noise normalised windows (R, H, D) to `levels`."""
        noise = self._noise.draw(rows, self._head.window_shape)
        return self._signal[levels][:, None] * clean + self._sigma[levels][:, None] * noise
