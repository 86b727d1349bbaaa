"""Streaming Diffusion Policy (arXiv 2406.04806): a rolling buffer whose noise grows along time."""

from __future__ import annotations

import numpy as np
import torch

from ...decoding import ActionSpec, ActionTrajectory, Observation
from ...decoding.samplers import spaced_levels
from ..programs.engines.engine import Engine, make_engine
from ..programs.program import Program
from ..programs.rows import RowActions, RowNoise, selection
from .config import SamplingConfig
from .model import DiffusionModel
from .policy import ActionHead, write_noise
from .reverse import noise_names, reverse_program
from .streaming_program import Emit, stream_program

NOT_STARTED = -1


class StreamingDiffusionPolicy:
    """One chunk of actions per plan, from a buffer that keeps its partly denoised future.

    A plan that begins after its observation, because inference takes time, holds the actions in
    between clean in front of the buffer, as many as the model is trained for.

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
        if sampling.prefix_guidance:
            raise ValueError(
                "prefix_guidance is for plain Diffusion Policies; a streaming one goes on from its "
                "own buffer"
            )
        self.action_spec, self.model = action_spec, model
        self.num_execute = sampling.num_execute
        self._sampling, self._engine_name = sampling, engine
        self._head = ActionHead(model, action_spec)
        self.observation_spec = self._head.observation_spec
        self.ladder = model.ladder(self.num_execute)
        self._calls = sampling.calls_per_step or self.ladder.levels_per_step
        self._emit = Emit(model, self.ladder, self._head.physical).eval()
        self.program = self._program(latency=0)
        self._noise_names = noise_names(self.program)
        self._engines = {0: make_engine(engine, self.program)}
        start = self._start_program()
        self._start_names = noise_names(start) if start else []
        self._start_engine = make_engine(engine, start) if start else None
        self._signal = np.sqrt(model.schedule.alpha_bar).astype(np.float32)
        self._sigma = np.sqrt(1 - model.schedule.alpha_bar).astype(np.float32)
        normalizer = model.action_normalizer
        self._scale, self._offset = normalizer.scale.cpu().numpy(), normalizer.offset.cpu().numpy()
        self._noise = RowNoise()
        self._buffer = np.zeros((0, *self._head.window_shape), np.float32)
        self._max_latency = model.config.max_latency
        remembers = self._max_latency > 0 or self._emit.needs_past
        num_remembered = model.num_past + self._max_latency if remembers else 0
        self._executed = RowActions(num_remembered, action_spec.size)
        self._next_step: list[int] = []
        self._templates: dict[tuple[int, int], ActionTrajectory] = {}

    def _program(self, latency: int) -> Program:
        """A control step whose chunk begins `latency` steps after the observation."""
        ladder = self.ladder.delayed(latency)
        return stream_program(self.model, self._head, ladder, self._calls, self._sampling.update)

    def _engine(self, latency: int) -> Engine:
        """The engine of one latency, built when it first occurs."""
        if latency not in self._engines:
            self._engines[latency] = make_engine(self._engine_name, self._program(latency))
        return self._engines[latency]

    def _start_program(self) -> Program | None:
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
        start_calls = sampling.start_calls or min(self.ladder.num_chunks * self._calls, num_levels)
        levels = spaced_levels(num_levels, 0, start_calls)
        vectors = [np.full(model.config.horizon, level) for level in levels]
        return reverse_program(model, vectors, sampling.update)

    @property
    def parity(self) -> float:
        """Largest difference of the engine from eager PyTorch, in normalised action units."""
        return max(engine.parity for engine in self._engines.values())

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`: their buffers are forgotten; see `Policy.reset`."""
        self._noise.reset(seeds, rows)
        if rows is None:
            self._buffer = np.zeros((len(seeds), *self._buffer.shape[1:]), np.float32)
            self._executed.reset(len(seeds))
            self._next_step = [NOT_STARTED] * len(seeds)
            return
        for row in rows.tolist():
            self._next_step[row] = NOT_STARTED

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Advance each row's buffer by one control step; see `Policy.plan`.

        Committed actions and the Ta actions after them are clean; the rest of the trajectory is the
        buffer as it stands, with its noise levels. A row whose `step` does not continue its buffer
        starts anew.
        """
        rows, steps = observation.rows.tolist(), step.tolist()
        latencies = [
            min(first - observed, self._max_latency)
            if self._next_step[row] == first
            else NOT_STARTED
            for row, first, observed in zip(rows, steps, observation.step.tolist(), strict=True)
        ]
        kinds = set(latencies)
        if len(kinds) == 1:
            actions = self._advance(observation, latencies[0])
        else:
            actions = np.empty((len(rows), *self._head.actions.shape), np.float32)
            for kind in kinds:
                chosen = np.flatnonzero(np.equal(latencies, kind))
                actions[chosen] = self._advance(observation.select(chosen), kind)
        for row, first in zip(rows, steps, strict=True):
            self._next_step[row] = first + self.num_execute
        late = [max(latency, 0) for latency in latencies]
        first_step = step - late if any(late) else step
        return self._template(late).following(actions, first_step, observation.step)

    def _template(self, late: list[int]) -> ActionTrajectory:
        """A plan of rows so many steps late that lends its noise levels to all the others."""
        key = (len(late), late[0])
        if len(set(late)) > 1:
            return self._new_template(late)
        if key not in self._templates:
            self._templates[key] = self._new_template(late)
        return self._templates[key]

    def _new_template(self, late: list[int]) -> ActionTrajectory:
        # The buffers' own noise levels: 0 for committed actions and the emitted chunk.
        ladders = [self.ladder.delayed(latency) for latency in late]
        future = [ladder.levels(ladder.levels_per_step)[ladder.num_past :] for ladder in ladders]
        levels = (np.stack(future) / self.ladder.num_levels).astype(np.float32)
        actions, steps = np.zeros((len(late), *self._head.actions.shape)), np.zeros(len(late), int)
        return ActionTrajectory(
            actions, steps, steps, self.action_spec.dt, levels, np.ones(levels.shape, bool)
        )

    def _advance(self, observation: Observation, latency: int) -> np.ndarray:
        """One control step of rows that all are as late, or all start."""
        if latency == NOT_STARTED:
            actions, latency = self._start(observation), 0
        else:
            actions = self._continue(observation, latency)
        if self._executed.length:
            # Not as they come back from the network's units, which would round them.
            actions[:, :latency] = self._executed.newest(observation.rows, latency)
            chunk = actions[:, latency : latency + self.num_execute]
            self._executed.append(observation.rows, chunk)
        return actions

    def _continue(self, observation: Observation, latency: int) -> np.ndarray:
        """One control step of rows whose buffers stand at the start of the ladder."""
        rows, memory = observation.rows, self._engine(latency).memory(len(observation.rows))
        chosen = selection(rows, len(self._buffer))
        self._head.join_frames(observation, memory.inputs["observation"])
        buffer = self._buffer[chosen]
        memory.inputs["x"][...] = self._committed(rows, buffer, latency) if latency else buffer
        if "past" in memory.inputs:
            past = self._executed.newest(rows, self.ladder.num_past + latency)
            memory.inputs["past"][...] = self._normalised(past[:, : self.ladder.num_past])
        write_noise(self._noise, rows, memory, self._noise_names)
        self._noise.fill(rows, memory.inputs["fresh"])
        memory.run()
        self._buffer[chosen] = memory.outputs["buffer"]
        return memory.outputs["actions"].copy()

    def _committed(self, rows: np.ndarray, buffer: np.ndarray, latency: int) -> np.ndarray:
        """Put the last executed actions, some clean and in front of them noised, before buffers."""
        num_past = self.ladder.num_past
        executed = self._normalised(self._executed.newest(rows, num_past + latency))
        level, noise = (
            self.ladder.levels_per_step,
            self._noise.draw(rows, (num_past, executed.shape[2])),
        )
        past = self._signal[level] * executed[:, :num_past] + self._sigma[level] * noise
        chunks = buffer[:, num_past : buffer.shape[1] - latency]
        return np.concatenate([past, executed[:, num_past:], chunks], axis=1)

    def _start(self, observation: Observation) -> np.ndarray:
        """Give each row a first chunk and a buffer at the start of the ladder."""
        rows = observation.rows
        if self._start_engine is None:
            clean = self._prior(observation)
            self._begin(rows, clean)
            self._buffer[rows] = self._noised(rows, clean, self.ladder.levels())
            return self._continue(observation, latency=0)
        memory = self._start_engine.memory(len(rows))
        self._head.join_frames(observation, memory.inputs["observation"])
        self._noise.fill(rows, memory.inputs["x"])
        write_noise(self._noise, rows, memory, self._start_names)
        memory.run()
        clean = memory.outputs["window"]
        self._begin(rows, clean)
        # The whole window is clean: its first chunk is executed now, without further calls, and
        # the later ones are noised to where they must stand one control step on.
        window = self._noised(rows, clean, self.ladder.levels(self.ladder.levels_per_step))
        fresh = self._noise.draw(rows, (self.ladder.num_past + self.num_execute, clean.shape[2]))
        parts = [window, fresh]
        if self._emit.needs_past:
            parts.append(clean[:, : self.ladder.num_past].copy())
        with torch.inference_mode():
            emitted = self._emit(*(torch.from_numpy(part) for part in parts))
        self._buffer[rows], actions = emitted[0].numpy(), emitted[1].numpy()
        return actions

    def _begin(self, rows: np.ndarray, clean: np.ndarray) -> None:
        """Let the past slots of normalised windows (R, H, D) be what was executed before."""
        if self._executed.length:
            before = clean[:, : max(self.ladder.num_past, 1)]
            self._executed.begin(rows, (before - self._offset) / self._scale)

    def _normalised(self, actions: np.ndarray) -> np.ndarray:
        """Physical actions, shape (R, n, D), in the network's units."""
        return actions * self._scale + self._offset

    def _prior(self, observation: Observation) -> np.ndarray:
        """Clean guess of the window before anything is known: zeros, or staying where it is."""
        horizon, size = self._head.window_shape
        if self._sampling.start == "zero":
            return np.zeros((len(observation.rows), horizon, size), np.float32)
        position = self._head.features(observation, self._sampling.start_key)[:, :size]
        return np.repeat(self._normalised(position)[:, None], horizon, axis=1)

    def _noised(self, rows: np.ndarray, clean: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Noise normalised windows (R, H, D) to `levels`."""
        noise = self._noise.draw(rows, self._head.window_shape)
        return self._signal[levels][:, None] * clean + self._sigma[levels][:, None] * noise
