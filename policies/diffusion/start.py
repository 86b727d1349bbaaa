"""Where an episode's rolling buffer comes from: a clean window, sampled or guessed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...decoding import Observation
from ...decoding.rolling import Ladder
from ...decoding.samplers import spaced_levels
from ..programs.engines.engine import make_engine
from ..programs.program import Program
from .buffers import Buffers
from .config import StreamingSampling
from .model import DiffusionModel
from .policy import ActionHead, write_noise
from .reverse import noise_names, reverse_program

# From the observation of R rows to normalised windows, shape (R, H, D).
Guess = Callable[[Observation], np.ndarray]


def start_program(model: DiffusionModel, ladder: Ladder, sampling: StreamingSampling) -> Program:
    """Pure noise to a clean window, in `start_calls` network calls."""
    num_levels, horizon = model.config.num_levels, model.config.horizon
    num_calls = sampling.calls_per_step or ladder.levels_per_step
    start_calls = sampling.start_calls or min(ladder.num_chunks * num_calls, num_levels)
    levels = [np.full(horizon, one) for one in spaced_levels(num_levels, 0, start_calls)]
    return reverse_program(model, levels, sampling.update)


class SampledStart:
    """A window denoised from pure noise, as Diffusion Policy does: its first chunk is executed.

    Args:
        model: Trained model.
        head: Its numpy boundary.
        ladder: Levels of the buffer.
        sampling: `start_calls` and `calls_per_step`.
        engine: How the network runs.
    """

    def __init__(
        self,
        model: DiffusionModel,
        head: ActionHead,
        ladder: Ladder,
        sampling: StreamingSampling,
        engine: str,
    ) -> None:
        program = start_program(model, ladder, sampling)
        self._head, self._noise_names = head, noise_names(program)
        self._engine = make_engine(engine, program)

    @property
    def parity(self) -> float:
        """Largest difference of the engine from eager PyTorch."""
        return self._engine.parity

    def sample(self, observation: Observation, buffers: Buffers) -> np.ndarray:
        """Clean normalised windows, shape (R, H, D), overwritten by the next call."""
        rows, memory = observation.rows, self._engine.memory(len(observation.rows))
        self._head.observed.write(observation, memory)
        buffers.noise.fill(rows, memory.inputs["x"])
        write_noise(buffers.noise, rows, memory, self._noise_names)
        memory.run()
        self._head.observed.keep(observation, memory)
        return memory.outputs["window"]


def make_guess(
    model: DiffusionModel, head: ActionHead, sampling: StreamingSampling, buffers: Buffers
) -> Guess:
    """What is guessed before anything is known: zeros, or that the robot stays where it is.

    Raises:
        ValueError: If the observation that holds the position is not one of the model's.
    """
    horizon, size = model.window_shape
    key = sampling.start_key
    if sampling.start == "zero":
        return lambda observation: np.zeros((len(observation.rows), horizon, size), np.float32)
    if key not in model.observation_shapes:
        raise ValueError(
            "start 'constant' needs start_key, the observation that holds the current position "
            f"in action units; expected one of {sorted(model.observation_shapes)}, got {key!r}"
        )

    def stay(observation: Observation) -> np.ndarray:
        position = head.features(observation, key)[:, : model.action_dim]  # (r, d)
        return np.repeat(buffers.normalised(position)[:, None], horizon, axis=1)  # (r, h, d)

    return stay
