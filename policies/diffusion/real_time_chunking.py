"""A diffusion policy whose chunks continue each other although inference takes time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ...decoding import ActionSpec, ActionTrajectory, Observation
from ...decoding.prefix_guidance import guided_clean, prefix_weights
from ...decoding.samplers import apply_step, step_coefficients
from ..programs.rows import RowNoise
from .config import DiffusionSampling
from .model import DiffusionModel
from .policy import ActionHead, check_num_execute, chosen_levels


class RealTimeChunkingPolicy:
    """Diffusion Policy with real-time chunking; see `decoding.prefix_guidance`.

    The delay is what the executor says it is: the steps between an observation and the first
    action that the plan is asked for.

    Args:
        model: Trained model of a plain Diffusion Policy.
        action_spec: Names, bounds and period of the actions.
        sampling: Network calls, executed actions and `prefix_guidance`; the update is DDIM's.
        engine: ``"eager"``: the gradient that guides is not in the graphs of the others.
    """

    def __init__(
        self,
        model: DiffusionModel,
        action_spec: ActionSpec,
        sampling: DiffusionSampling,
        engine: str = "eager",
    ) -> None:
        if engine != "eager":
            raise ValueError(f"real-time chunking runs on engine 'eager', got {engine!r}")
        if sampling.update != "ddim":
            raise ValueError(f"real-time chunking needs update=ddim, got {sampling.update!r}")
        check_num_execute(sampling.num_execute, model)
        self.action_spec, self.engine = action_spec, engine
        self.num_execute = sampling.num_execute
        self._model, self._guidance = model, sampling.prefix_guidance
        self._head = ActionHead(model, action_spec, engine)
        self.observation_spec = self._head.observed.spec
        self._levels = chosen_levels(model, sampling)
        self._noise = RowNoise()
        self._old = np.zeros((0, *model.window_shape), np.float32)
        self._old_step = np.zeros(0, np.int64)

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`: there is no old plan; see `Policy.reset`."""
        self._noise.reset(seeds, rows)
        self._head.observed.reset(len(seeds), rows)
        if rows is None:
            self._old = np.zeros((len(seeds), *self._old.shape[1:]), np.float32)
            self._old_step = np.full(len(seeds), -self._old.shape[1])
        else:
            self._old_step[rows] = -self._old.shape[1]

    def observe(self, observation: Observation) -> None:
        """Encode pictures between two plans; see `Observing.observe`."""
        self._head.observed.observe(observation)

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Sample H - To + 1 actions from the observed step on; see `Policy.plan`.

        Those before `step` repeat the old plan, as far as guidance goes.
        """
        rows, device = observation.rows, self._model.device
        old, weights = self._old_plan(rows, observation.step, step)
        drawn = self._noise.draw(rows, self._model.window_shape)
        with torch.no_grad():
            context = self._head.observed.context(observation)  # (r, to * o)
            x, old, weights = (torch.from_numpy(one).to(device) for one in (drawn, old, weights))
            window = self._denoise(x, context, old, weights)
            actions = self._head.physical(window).cpu().numpy()  # (r, h - to + 1, d)
        self._old[rows], self._old_step[rows] = window.cpu().numpy(), observation.step
        return ActionTrajectory.clean(
            actions, observation.step, observation.step, self.action_spec.dt
        )

    def _old_plan(
        self, rows: np.ndarray, observed: np.ndarray, step: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The old windows shifted to the observed step (R, H, D), and their weights (R, H, 1)."""
        horizon, past = self._old.shape[1], self._model.num_past
        future = horizon - past
        old = np.zeros((len(rows), *self._old.shape[1:]), np.float32)
        weights = np.zeros((len(rows), horizon, 1), np.float32)
        for index, row in enumerate(rows):
            shift = int(observed[index] - self._old_step[row])
            left = future - shift
            if not 0 < left <= future:
                continue
            delay = min(int(step[index] - observed[index]), left)
            old[index, past : past + left] = self._old[row, past + shift :]
            execute = max(future - left, 1)
            weights[index, past:, 0] = prefix_weights(future, min(delay, future - execute), execute)
        return old, weights

    def _denoise(self, x: Tensor, context: Tensor, old: Tensor, weights: Tensor) -> Tensor:
        """DDIM whose network predicts the guided clean estimate."""
        schedule, horizon = self._model.schedule, x.shape[1]
        for pair in pairwise(self._levels):
            level, after = (np.full(horizon, one) for one in pair)
            predict = self._clean_estimate(level, after, context)
            signal = float(schedule.signals[pair[0]])
            clean = guided_clean(predict, x, old, weights, signal, self._guidance)  # (r, h, d)
            step = step_coefficients(schedule, level, after, "sample", "ddim")
            x = apply_step(x, clean, step, clip=self._model.config.clip)
        return x

    def _clean_estimate(
        self, level: np.ndarray, after: np.ndarray, context: Tensor
    ) -> Callable[[Tensor], Tensor]:
        """The network at one level (H,) as a function from noisy to clean actions."""
        prediction = self._model.config.prediction
        steps = step_coefficients(self._model.schedule, level, after, prediction, "ddim")
        p_x, p_f = float(steps.p_x[0]), float(steps.p_f[0])

        def predict(x: Tensor) -> Tensor:
            levels = torch.from_numpy(level).to(x.device).expand(len(x), -1)  # (r, h)
            return p_x * x + p_f * self._model.predict(x, levels, context)

        return predict
