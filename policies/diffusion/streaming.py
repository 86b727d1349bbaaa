"""Streaming Diffusion Policy (arXiv 2406.04806): a rolling buffer whose noise grows along time.

`decoding.rolling.stream` is the algorithm as one reads it beside the paper; here it is prepared:
what a control step computes is a program (`streaming_program`), what a row keeps are `Buffers`,
and where they come from is `start`.
"""

from __future__ import annotations

import numpy as np
import torch

from ...decoding import ActionSpec, ActionTrajectory, Observation
from ..programs.engines.engine import Engine, make_engine
from ..programs.program import Program
from .buffers import NOT_STARTED, Buffers
from .config import StreamingSampling
from .model import DiffusionModel
from .policy import ActionHead, write_noise
from .reverse import noise_names
from .start import SampledStart, make_guess
from .streaming_program import Emit, stream_program


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
        sampling: StreamingSampling,
        engine: str = "eager",
    ) -> None:
        self.action_spec, self.model = action_spec, model
        self.num_execute = sampling.num_execute
        self._sampling, self.engine = sampling, engine
        self._head = ActionHead(model, action_spec, engine)
        self.observation_spec = self._head.observed.spec
        self.ladder = model.ladder(self.num_execute)
        self.program = self.program_at(latency=0)
        self._noise_names = noise_names(self.program)
        self._engines = {0: make_engine(engine, self.program)}
        self.emit = Emit(model, self.ladder, self._head.physical).eval()
        max_latency = model.config.max_latency
        remembers = max_latency > 0 or self.emit.needs_past
        self._buffers = Buffers(
            model, self.ladder, model.num_past + max_latency if remembers else 0
        )
        self._sampled_start = self._guess = None
        if sampling.start == "denoise":
            self._sampled_start = SampledStart(model, self._head, self.ladder, sampling, engine)
        else:
            self._guess = make_guess(model, self._head, sampling, self._buffers)
        self._templates: dict[tuple[int, int], ActionTrajectory] = {}

    def program_at(self, latency: int) -> Program:
        """A control step whose chunk begins `latency` steps after the observation."""
        num_calls = self._sampling.calls_per_step or self.ladder.levels_per_step
        ladder = self.ladder.delayed(latency)
        return stream_program(self.model, self._head, ladder, num_calls, self._sampling.update)

    def _engine(self, latency: int) -> Engine:
        """The engine of one latency, built when it first occurs."""
        if latency not in self._engines:
            self._engines[latency] = make_engine(self.engine, self.program_at(latency))
        return self._engines[latency]

    @property
    def parity(self) -> float:
        """Largest difference of the engine from eager PyTorch, in normalised action units."""
        return max(engine.parity for engine in self._engines.values())

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`: their buffers are forgotten; see `Policy.reset`."""
        self._buffers.reset(seeds, rows)
        self._head.observed.reset(len(seeds), rows)

    def observe(self, observation: Observation) -> None:
        """Encode pictures between two plans; see `Observing.observe`."""
        self._head.observed.observe(observation)

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Advance each row's buffer by one control step; see `Policy.plan`.

        Committed actions and the Ta actions after them are clean; the rest of the trajectory is the
        buffer as it stands, with its noise levels. A row whose `step` does not continue its buffer
        starts anew.
        """
        rows, steps = observation.rows.tolist(), step.tolist()
        latencies = self._buffers.latencies(rows, steps, observation.step.tolist())
        kinds = set(latencies)
        if len(kinds) == 1:
            actions = self._advance(observation, latencies[0])
        else:
            actions = np.empty((len(latencies), *self._head.actions.shape), np.float32)
            for kind in kinds:
                chosen = np.flatnonzero(np.equal(latencies, kind))
                actions[chosen] = self._advance(observation.select(chosen), kind)
        self._buffers.expect(rows, [first + self.num_execute for first in steps])
        late = [max(latency, 0) for latency in latencies]
        first_step = step - late if any(late) else step
        return self._template(late).following(actions, first_step, observation.step)

    def _advance(self, observation: Observation, latency: int) -> np.ndarray:
        """One control step of rows that all are as late, or all start; actions (R, F, D)."""
        if latency == NOT_STARTED:
            return self._start(observation)
        rows, buffers = observation.rows, self._buffers
        memory = self._engine(latency).memory(len(rows))
        self._head.observed.write(observation, memory)
        memory.inputs["x"][...] = buffers.read(rows, latency)
        if "past" in memory.inputs:
            past = buffers.executed.newest(rows, self.ladder.num_past + latency)
            memory.inputs["past"][...] = buffers.normalised(past[:, : self.ladder.num_past])
        write_noise(buffers.noise, rows, memory, self._noise_names)
        buffers.noise.fill(rows, memory.inputs["fresh"])
        memory.run()
        self._head.observed.keep(observation, memory)
        buffers.write(rows, memory.outputs["buffer"])
        return self._remembered(rows, memory.outputs["actions"].copy(), latency)

    def _remembered(self, rows: np.ndarray, actions: np.ndarray, latency: int) -> np.ndarray:
        """Remember what of a plan is executed, if anybody needs it; return the plan's actions."""
        executed = self._buffers.executed
        if executed.length:
            # Not as they come back from the network's units, which would round them.
            actions[:, :latency] = executed.newest(rows, latency)
            executed.append(rows, actions[:, latency : latency + self.num_execute])
        return actions

    def _start(self, observation: Observation) -> np.ndarray:
        """Give each row a first chunk and a buffer at the start of the ladder."""
        rows, buffers, ladder = observation.rows, self._buffers, self.ladder
        if self._guess is not None:
            guess = self._guess(observation)
            buffers.begin(rows, guess)
            buffers.windows[rows] = buffers.noised(rows, guess, ladder.levels())
            return self._advance(observation, latency=0)
        assert self._sampled_start is not None
        clean = self._sampled_start.sample(observation, buffers)
        buffers.begin(rows, clean)
        # The whole window is clean: its first chunk is executed now, without further calls, and
        # the later ones are noised to where they must stand one control step on.
        window = buffers.noised(rows, clean, ladder.levels(ladder.levels_per_step))  # (r, h, d)
        fresh = buffers.noise.draw(rows, (ladder.num_past + self.num_execute, clean.shape[2]))
        parts = [window, fresh]
        if self.emit.needs_past:
            parts.append(clean[:, : ladder.num_past].copy())
        with torch.inference_mode():
            emitted = self.emit(*(torch.from_numpy(part).to(self.model.device) for part in parts))
        buffers.windows[rows], actions = (part.cpu().numpy() for part in emitted)
        return self._remembered(rows, actions, latency=0)

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
        levels = (np.stack(future) / self.ladder.num_levels).astype(np.float32)  # (r, h - to + 1)
        actions, steps = np.zeros((len(late), *self._head.actions.shape)), np.zeros(len(late), int)
        return ActionTrajectory(
            actions, steps, steps, self.action_spec.dt, levels, np.ones(levels.shape, bool)
        )
