"""Streaming Diffusion Policy (arXiv 2406.04806): a rolling buffer whose noise grows along time."""

from __future__ import annotations

import numpy as np

from ..decoding import ActionSpec, ActionTrajectory, Observation
from ..decoding.rolling import advance
from ..decoding.samplers import spaced_levels
from .diffusion import ActionHead
from .engines.engine import Engine, make_engine
from .model import DiffusionModel
from .program import ReverseProgram
from .rows import RowNoise
from .sampling import SamplingConfig

NOT_STARTED = -1


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
        self.action_spec = action_spec
        self.num_execute = sampling.num_execute
        self._sampling = sampling
        self._head = ActionHead(model, action_spec)
        self.observation_spec = self._head.observation_spec
        config = model.config
        self.ladder = model.ladder(self.num_execute)
        calls = sampling.calls_per_step or self.ladder.rung
        self.program = ReverseProgram(model, self.ladder.control_step(calls), sampling.update)
        self._engine: Engine = make_engine(engine, self.program)
        self._start_program = self._make_start_program(model, calls)
        self._start_engine = self._start_program and make_engine(engine, self._start_program)
        self._start_levels = self.ladder.levels()
        self._signal = np.sqrt(model.schedule.alpha_bar).astype(np.float32)
        self._sigma = np.sqrt(1 - model.schedule.alpha_bar).astype(np.float32)
        # The buffer's own noise levels, as published with each plan: 0 for the emitted chunk.
        future = self.ladder.levels(self.ladder.rung)[model.num_past :]
        self._noise_level = (future / config.num_levels).astype(np.float32)
        self._noise_levels, self._valid = self._constants(0)
        self._noise = RowNoise()
        self._buffer = np.zeros((0, *self._head.window_shape), np.float32)
        self._past = np.zeros((0, model.num_past, model.action_dim), np.float32)
        self._next_step = np.zeros(0, np.int64)

    def _make_start_program(self, model: DiffusionModel, calls: int) -> ReverseProgram | None:
        sampling = self._sampling
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
        return ReverseProgram(model, vectors, sampling.update)

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
            self._next_step = np.full(len(seeds), NOT_STARTED)
            self._noise_levels, self._valid = self._constants(len(seeds))
        else:
            self._next_step[rows] = NOT_STARTED

    def _constants(self, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Noise levels and validity of every plan of so many rows, read-only."""
        levels = np.tile(self._noise_level, (num_rows, 1))
        valid = np.ones(levels.shape, bool)
        levels.flags.writeable = valid.flags.writeable = False
        return levels, valid

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Advance each row's buffer by one control step; see `Policy.plan`.

        The first Ta actions are clean; the rest of the trajectory is the buffer as it stands, with
        its noise levels. A row whose `step` does not continue its buffer starts anew.
        """
        rows, frames = observation.rows, self._head.frames(observation)
        starting = self._next_step[rows] != step
        if not starting.any():
            window = self._stream(rows, frames)
        else:
            window = np.empty((len(rows), *self._buffer.shape[1:]), np.float32)
            window[starting] = self._start(rows[starting], frames[starting])
            if not starting.all():
                window[~starting] = self._stream(rows[~starting], frames[~starting])
        self._next_step[rows] = step + self.num_execute
        actions = self._head.physical(window[:, self._past.shape[1] :])
        num_rows = len(rows)
        return ActionTrajectory(
            actions,
            step,
            observation.step,
            self.action_spec.dt,
            self._noise_levels[:num_rows],
            self._valid[:num_rows],
        )

    def _stream(self, rows: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """One control step of rows whose buffers stand at the start of the ladder."""
        noise = self._noise.draw_calls(rows, self.program, self._head.window_shape)
        window = self._engine(frames, self._buffer[rows], noise)
        self._emit(rows, window)
        return window

    def _emit(self, rows: np.ndarray, window: np.ndarray) -> None:
        """Take the clean chunk out of `window` and bring the rest back to the ladder's start."""
        num_past, chunk = self._past.shape[1], self.num_execute
        executed = window[:, num_past : num_past + chunk]
        past = np.concatenate([self._past[rows], executed], axis=1)[:, chunk:]
        self._past[rows] = past
        fresh = self._noise.draw(rows, (num_past + chunk, window.shape[2]))
        # Executed actions are noised again: the network was trained on past slots at that level.
        level = self._start_levels[0]
        noised = self._signal[level] * past + self._sigma[level] * fresh[:, :num_past]
        shifted = advance(window, noised, chunk)
        self._buffer[rows, : shifted.shape[1]] = shifted
        self._buffer[rows, shifted.shape[1] :] = fresh[:, num_past:]

    def _start(self, rows: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Give each row a first chunk and a buffer at the start of the ladder."""
        if self._start_engine is None or self._start_program is None:
            self._past[rows] = (clean := self._prior(rows, frames))[:, : self._past.shape[1]]
            self._buffer[rows] = self._noised(rows, clean)
            return self._stream(rows, frames)
        x = self._noise.draw(rows, self._head.window_shape)
        noise = self._noise.draw_calls(rows, self._start_program, self._head.window_shape)
        clean = self._start_engine(frames, x, noise)
        self._past[rows] = clean[:, : self._past.shape[1]]
        # The whole window is clean: its first chunk is executed now, without further calls, and
        # the later ones are noised to where they must stand one control step on.
        window = self._noised(rows, clean, self.ladder.levels(self.ladder.rung))
        self._emit(rows, window)
        return window

    def _prior(self, rows: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Clean guess of the window before anything is known: zeros, or staying where it is."""
        horizon, size = self._head.window_shape
        if self._sampling.start == "zero":
            return np.zeros((len(rows), horizon, size), np.float32)
        begin = 0
        for key, shape in self.observation_spec.shapes.items():
            if key == self._sampling.start_key:
                break
            begin += int(np.prod(shape))
        position = self._head.normalised(frames[:, -1, begin : begin + size])
        return np.repeat(position[:, None], horizon, axis=1)

    def _noised(
        self, rows: np.ndarray, clean: np.ndarray, levels: np.ndarray | None = None
    ) -> np.ndarray:
        """Noise normalised windows (R, H, D) to `levels`, the start of the ladder by default."""
        levels = self._start_levels if levels is None else levels
        noise = self._noise.draw(rows, self._head.window_shape)
        return self._signal[levels][:, None] * clean + self._sigma[levels][:, None] * noise
