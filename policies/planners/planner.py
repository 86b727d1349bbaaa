"""The planner policy: keeps what a row asks for and planned, and hands out actions."""

from __future__ import annotations

import numpy as np
import torch

from ...decoding import ActionSpec, ActionTrajectory, Observation, ObservationSpec
from ..diffusion.policy import write_noise
from ..programs.engines.engine import Engine, make_engine
from ..programs.program import Program
from ..programs.rows import RowNoise, check_reset, selection
from .config import PlannerSampling
from .decision import Decision
from .model import REWARD_KEY, PlannerModel

NOT_STARTED = -1


class Row:
    """Where one row stands: plain Python, since numpy costs microseconds for a single number.

    Attributes:
        observed: Control step of the last plan.
        num_reused: Plans in a row that started from the one before.
        return_to_go: Return asked for at each of the newest frames, share of the data's largest.
    """

    __slots__ = ("num_reused", "observed", "return_to_go")

    def __init__(self) -> None:
        self.observed = NOT_STARTED
        self.num_reused = 0
        self.return_to_go: list[float] = []


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
        self.model, self.sampling, self.engine = model, sampling, engine
        self._noise = RowNoise()
        self._scale, self._context = float(model.return_scale), model.config.context
        self._low, self._high = action_spec.float32_bounds
        self._fresh, self._warm = Decision(model, sampling), None
        self._engine = make_engine(engine, self._fresh.program)
        self._warm_engine = None
        if sampling.reuse:
            self._warm = Decision(model, sampling, warm=True)
            self._warm_engine = make_engine(engine, self._warm.program)
        self.observation_spec = ObservationSpec(
            model.observation_shapes, max(self._context, self.num_execute)
        )
        self._rows: list[Row] = []
        self._plans = np.zeros((0, *self.program.outputs["plan"].shape), np.float32)
        self._templates: dict[tuple[int, ...], ActionTrajectory] = {}

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
            self._rows = [Row() for _ in seeds]
            self._plans = np.zeros((len(seeds), *self._plans.shape[1:]), np.float32)
        else:
            for row in rows.tolist():
                self._rows[row] = Row()

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Plan from the observed step on; see `Policy.plan`.

        The trajectory holds the actions that are meant to be executed, or those along all of the
        plan where the first one that is needed lies behind the observed step.
        """
        rows = observation.rows
        observed = observation.step.tolist()
        warm = self._advance(observation, observed)
        if not any(warm):
            actions = self._decide(self._fresh, self._engine, observation)
        elif all(warm):
            actions = self._continue(observation)
        else:
            actions = np.empty((len(rows), *self.program.outputs["actions"].shape), np.float32)
            mask = np.array(warm)
            fresh = observation.select(np.flatnonzero(~mask))
            actions[~mask] = self._decide(self._fresh, self._engine, fresh)
            actions[mask] = self._continue(observation.select(np.flatnonzero(mask)))
        late = step.tolist() != observed
        if late:
            actions = self.actions(rows)
        if self.model.config.stride > 1:
            actions = actions.repeat(self.model.config.stride, axis=1)
            actions = actions if late else actions[:, : self.num_execute]
        actions = np.minimum(np.maximum(actions, self._low), self._high)
        return self._template(actions).following(actions, observation.step, observation.step)

    def states(self, rows: np.ndarray) -> np.ndarray:
        """States of the last plan of `rows`, physical, shape (R, H, O)."""
        return self._plans[rows, :, : self.model.state_dim]

    def actions(self, rows: np.ndarray) -> np.ndarray:
        """Actions along the last plan of `rows`, physical, not clipped, shape (R, H - 1, A)."""
        model, plans = self.model, torch.from_numpy(self._plans[rows]).to(self.model.device)
        with torch.inference_mode():
            states = plans[..., : model.state_dim]
            if model.inverse is None:
                return plans[:, :-1, model.state_dim + 1 :].cpu().numpy()
            encoded = model.coordinates(states)
            return model.actions(encoded, states, model.config.horizon - 1).cpu().numpy()

    def _template(self, actions: np.ndarray) -> ActionTrajectory:
        """A plan of the same shape, whose other fields all plans of it share."""
        if actions.shape not in self._templates:
            steps = np.zeros(len(actions), np.int64)
            template = ActionTrajectory.clean(actions, steps, steps, self.action_spec.dt)
            self._templates[actions.shape] = template
        return self._templates[actions.shape]

    def _advance(self, observation: Observation, observed: list[int]) -> list[bool]:
        """Bring the chosen rows to the observed steps; return which can continue their plan."""
        check_reset(observation.rows, len(self._rows))
        rewards, warm = None, []
        if self.sampling.return_floor < 1 and REWARD_KEY in observation.frames:
            rewards = observation.frames[REWARD_KEY][..., 0].tolist()
        for index, number in enumerate(observation.rows.tolist()):
            row = self._rows[number]
            moved = observed[index] - row.observed
            starting = row.observed == NOT_STARTED
            if starting:
                row.return_to_go = [self.sampling.target_return] * self._context
            elif rewards is not None:
                self._ask(row, rewards[index][-moved:] if moved else [])
            # Only a plan that was executed exactly as far as meant can be continued.
            continues = not starting and moved == self.num_execute
            continues = continues and row.num_reused < self.sampling.reuse
            row.num_reused = row.num_reused + 1 if continues else 0
            row.observed = observed[index]
            warm.append(continues)
        return warm

    def _ask(self, row: Row, rewards: list[float]) -> None:
        """Update the return that is asked for: r <- max(r - reward, floor * r_0)."""
        floor = self.sampling.return_floor * self.sampling.target_return
        for reward in rewards:
            row.return_to_go.append(max(row.return_to_go[-1] - reward / self._scale, floor))
        del row.return_to_go[: -self._context]

    def _continue(self, observation: Observation) -> np.ndarray:
        """Plans that start from the ones before."""
        assert self._warm is not None and self._warm_engine is not None
        return self._decide(self._warm, self._warm_engine, observation)

    def _decide(self, decision: Decision, engine: Engine, observation: Observation) -> np.ndarray:
        """Renew the plans of the observed rows; return their first actions, which are reused."""
        rows, frames, model = observation.rows, observation.frames, self.model
        memory = engine.memory(len(rows))
        inputs, chosen = memory.inputs, selection(rows, len(self._rows))
        begin, num_rows = 0, len(rows)
        for key in model.state_keys:
            newest = frames[key][:, -self._context :].reshape(num_rows, self._context, -1)
            end = begin + newest.shape[2]
            inputs["states"][..., begin:end] = newest
            begin = end
        inputs["returns"][...] = [self._rows[row].return_to_go for row in rows.tolist()]
        write_noise(self._noise, rows, memory, decision.noise)
        if model.goal_dim:
            inputs["goal"][...] = frames[model.config.goal_key][:, -1].reshape(num_rows, -1)
        if decision is self._warm:
            inputs["previous"][...] = self._plans[chosen]
        memory.run()
        self._plans[chosen] = memory.outputs["plan"]
        return memory.outputs["actions"]
