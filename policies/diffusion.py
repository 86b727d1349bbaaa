"""Diffusion Policy (Chi et al. 2023): sample a window from noise, execute its first actions."""

from __future__ import annotations

import numpy as np

from ..decoding import ActionSpec, ActionTrajectory, Observation, ObservationSpec
from ..decoding.samplers import spaced_levels
from .engines.engine import Engine, make_engine
from .model import DiffusionModel
from .program import ReverseProgram
from .rows import RowNoise
from .sampling import SamplingConfig


class ActionHead:
    """What both diffusion policies need at the numpy boundary.

    Args:
        model: Trained model.
        action_spec: Names, bounds and period of the actions.
    """

    def __init__(self, model: DiffusionModel, action_spec: ActionSpec) -> None:
        self.observation_spec = ObservationSpec(
            model.observation_shapes, model.config.num_obs_steps
        )
        self.window_shape = (model.config.horizon, model.action_dim)
        self._keys = tuple(model.observation_shapes)
        self._scale = model.action_normalizer.scale.cpu().numpy()
        self._offset = model.action_normalizer.offset.cpu().numpy()
        self._low = -_largest_below(-np.asarray(action_spec.low))
        self._high = _largest_below(np.asarray(action_spec.high))

    def frames(self, observation: Observation) -> np.ndarray:
        """Join the frames of all keys into shape (R, To, O)."""
        parts = [observation.frames[key] for key in self._keys]
        rows, steps = parts[0].shape[:2]
        joined = np.concatenate([part.reshape(rows, steps, -1) for part in parts], axis=-1)
        return joined.astype(np.float32, copy=False)

    def physical(self, normalised: np.ndarray) -> np.ndarray:
        """Return actions (..., D) to physical units, clipped to the spec; NaN stays NaN."""
        return np.clip((normalised - self._offset) / self._scale, self._low, self._high)

    def normalised(self, physical: np.ndarray) -> np.ndarray:
        """Normalise actions (..., D)."""
        return (physical * self._scale + self._offset).astype(np.float32)


def _largest_below(bound: np.ndarray) -> np.ndarray:
    """Largest float32 not above a float64 bound: rounding must not leave the action spec."""
    rounded = bound.astype(np.float32)
    return np.where(rounded > bound, np.nextafter(rounded, np.float32(-np.inf)), rounded)


class DiffusionPolicy:
    """Receding-horizon diffusion policy.

    Args:
        model: Trained model.
        action_spec: Names, bounds and period of the actions.
        sampling: Network calls, update rule and executed actions.
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
        self._head = ActionHead(model, action_spec)
        self.observation_spec = self._head.observation_spec
        self._num_past = model.num_past
        num_levels, horizon = model.config.num_levels, model.config.horizon
        if not 1 <= self.num_execute <= horizon - self._num_past:
            raise ValueError(
                f"num_execute must be between 1 and {horizon - self._num_past}, "
                f"got {self.num_execute}"
            )
        levels = spaced_levels(num_levels, 0, sampling.calls_per_step or num_levels)
        self.program = ReverseProgram(
            model, [np.full(horizon, level) for level in levels], sampling.update
        )
        self._engine: Engine = make_engine(engine, self.program)
        self._noise = RowNoise()

    @property
    def parity(self) -> float:
        """Largest difference of the engine from eager PyTorch, in normalised action units."""
        return self._engine.parity

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`; see `Policy.reset`."""
        self._noise.reset(seeds, rows)

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Sample H - To + 1 clean actions from the observed step on; see `Policy.plan`."""
        rows, shape = observation.rows, self._head.window_shape
        x = self._noise.draw(rows, shape)
        noise = self._noise.draw_calls(rows, self.program, shape)
        window = self._engine(self._head.frames(observation), x, noise)
        actions = self._head.physical(window[:, self._num_past :])
        return ActionTrajectory.clean(
            actions, observation.step, observation.step, self.action_spec.dt
        )
