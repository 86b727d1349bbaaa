"""The planner policy: keeps what a row asks for and planned, and hands out actions."""

from __future__ import annotations

import numpy as np

from ...decoding import ActionSpec, ActionTrajectory, Observation, ObservationSpec
from ..engines.engine import Engine, make_engine
from ..program import Program
from ..rows import RowNoise
from .config import PlannerSampling
from .decision import Decision
from .model import REWARD_KEY, PlannerModel

NOT_STARTED = -1


class Planner:
    """Plans states into the future and executes the first actions that lead along them.

    Args:
        model: Trained planner.
        action_spec: Names, bounds and period of the actions.
        sampling: How plans are made.
        engine: How a decision runs; see `engines`.
    """

    def __init__(
        self,
        model: PlannerModel,
        action_spec: ActionSpec,
        sampling: PlannerSampling,
        engine: str = "eager",
    ) -> None:
        self.action_spec, self.num_execute = action_spec, sampling.num_execute
        self.model, self.sampling = model, sampling
        self._noise = RowNoise()
        self._scale = float(model.return_scale)
        width = model.state_dim + 1 + model.action_dim
        self._plans = np.zeros((0, model.config.horizon, width), np.float32)
        self._fresh, self._warm = Decision(model, sampling), None
        self._engine = make_engine(engine, self._fresh.program)
        self._warm_engine = None
        if sampling.reuse:
            self._warm = Decision(model, sampling, warm=True)
            self._warm_engine = make_engine(engine, self._warm.program)
        context = model.config.context
        self.observation_spec = ObservationSpec(
            model.observation_shapes, max(context, self.num_execute)
        )
        self._returns = np.zeros((0, context), np.float32)
        self._observed = np.zeros(0, np.int64)
        self._num_reused = np.zeros(0, np.int64)

    @property
    def program(self) -> Program:
        """What most decisions run."""
        return (self._warm or self._fresh).program

    @property
    def parity(self) -> float:
        """Largest difference of the engine from eager PyTorch, in units of a plan's spread."""
        others = [] if self._warm_engine is None else [self._warm_engine.parity]
        return max([self._engine.parity, *others])

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`; see `Policy.reset`."""
        self._noise.reset(seeds, rows)
        if rows is None:
            num = len(seeds)
            self._plans = np.zeros((num, *self._plans.shape[1:]), np.float32)
            self._returns = np.zeros((num, self._returns.shape[1]), np.float32)
            self._observed = np.full(num, NOT_STARTED)
            self._num_reused = np.zeros(num, np.int64)
        else:
            self._observed[rows] = NOT_STARTED

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Plan H - 1 actions from the observed step on; see `Policy.plan`."""
        rows = observation.rows
        moved = observation.step - self._observed[rows]
        starting = self._observed[rows] == NOT_STARTED
        self._ask(observation, moved, starting)
        warm = np.zeros(len(rows), bool)
        if self._warm is not None:
            # Only a plan that was executed exactly as far as meant can be continued.
            warm = ~starting & (moved == self.num_execute)
            warm &= self._num_reused[rows] < self.sampling.reuse
        if not warm.all():
            self._decide(self._fresh, self._engine, observation, ~warm)
        if warm.any():
            assert self._warm is not None and self._warm_engine is not None
            self._decide(self._warm, self._warm_engine, observation, warm)
        self._num_reused[rows] = np.where(warm, self._num_reused[rows] + 1, 0)
        self._observed[rows] = observation.step
        actions = self._plans[rows, :-1, self.model.state_dim + 1 :]
        actions = np.clip(actions, *self.action_spec.float32_bounds)
        if self.model.config.stride > 1:
            actions = actions.repeat(self.model.config.stride, axis=1)
        dt = self.action_spec.dt
        return ActionTrajectory.clean(actions, observation.step, observation.step, dt)

    def states(self, rows: np.ndarray) -> np.ndarray:
        """States of the last plan of `rows`, physical, shape (R, H, O)."""
        return self._plans[rows, :, : self.model.state_dim]

    def _ask(self, observation: Observation, moved: np.ndarray, starting: np.ndarray) -> None:
        """Update the return that is asked for: r <- max(r - reward, floor * r_0)."""
        rows, target = observation.rows, self.sampling.target_return
        self._returns[rows[starting]] = target
        floor = self.sampling.return_floor
        if floor == 1 or REWARD_KEY not in observation.frames:
            return
        rewards = observation.frames[REWARD_KEY][..., 0] / self._scale
        for index in np.flatnonzero(~starting):
            history = self._returns[rows[index]]
            for age in reversed(range(min(int(moved[index]), rewards.shape[1]))):
                asked = max(history[-1] - rewards[index, -1 - age], floor * target)
                history[:-1], history[-1] = history[1:], asked

    def _decide(
        self, decision: Decision, engine: Engine, observation: Observation, chosen: np.ndarray
    ) -> None:
        """Renew the plans of the chosen entries of the observation."""
        rows, model = observation.rows[chosen], self.model
        num_rows, context = len(rows), model.config.context
        memory = engine.memory(num_rows)
        begin, frames = 0, observation.frames
        for key in model.state_keys:
            newest = frames[key][chosen, -context:].reshape(num_rows, context, -1)
            end = begin + newest.shape[2]
            memory.inputs["states"][..., begin:end] = newest
            begin = end
        memory.inputs["returns"][...] = self._returns[rows]
        for name in decision.noise:
            self._noise.fill(rows, memory.inputs[name])
        if model.goal_dim:
            goal = frames[model.config.goal_key][chosen, -1]
            memory.inputs["goal"][...] = goal.reshape(num_rows, -1)
        if "previous" in memory.inputs:
            memory.inputs["previous"][...] = self._plans[rows]
        memory.run()
        self._plans[rows] = memory.outputs["plan"]
