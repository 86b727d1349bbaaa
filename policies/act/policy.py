"""The ACT policy: a chunk per plan, or the average of the chunks of every control step."""

from __future__ import annotations

import numpy as np

from ...decoding import ActionSpec, ActionTrajectory, Observation, ObservationSpec
from ..programs.engines.engine import Engine, make_engine
from ..programs.rows import check_reset
from .config import ActSampling
from .model import ActModel
from .program import ENSEMBLE, NEXT_ENSEMBLE, PICTURES, VECTORS, act_program, empty_ensemble

NOT_STARTED = -1


class ActPolicy:
    """Action chunking with transformers (Zhao et al. 2023).

    Args:
        model: Trained model.
        action_spec: Names, bounds and period of the actions.
        sampling: Executed actions, and whether chunks are averaged.
        engine: How the network runs; see `engines`.
    """

    def __init__(
        self,
        model: ActModel,
        action_spec: ActionSpec,
        sampling: ActSampling,
        engine: str = "eager",
    ) -> None:
        sampling.check(model.config)
        self.action_spec, self.model, self.engine = action_spec, model, engine
        self.num_execute = sampling.num_execute
        self.observation_spec = ObservationSpec(model.observation_shapes, num_steps=1)
        self.program = act_program(model, action_spec, sampling.temporal_ensemble)
        self._engine: Engine = make_engine(engine, self.program)
        self._averages = sampling.temporal_ensemble is not None
        self._num_rows = 0
        self._observed = np.zeros(0, np.int64)
        # What each row's newest average was made from, and what came of it.
        self._before = self._after = empty_ensemble(model, 0)

    @property
    def parity(self) -> float:
        """Largest difference of the engine from eager PyTorch, in normalised action units."""
        return self._engine.parity

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`; see `Policy.reset`. Nothing is drawn."""
        if rows is None:
            self._num_rows, rows = len(seeds), np.arange(len(seeds))
            self._observed = np.zeros(len(seeds), np.int64)
            self._before = empty_ensemble(self.model, len(seeds) if self._averages else 0)
            self._after = self._before.copy()
        self._observed[rows] = NOT_STARTED

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Plan the actions of a chunk from the observed step on; see `Policy.plan`."""
        rows = observation.rows
        check_reset(rows, self._num_rows)
        memory = self._engine.memory(len(rows))
        for name, keys in ((VECTORS, self.model.vectors), (PICTURES, self.model.cameras)):
            if keys:
                _join(observation, keys, memory.inputs[name])
        if self._averages:
            self._advance(observation)
            memory.inputs[ENSEMBLE][...] = self._before[rows]
        memory.run()
        if self._averages:
            self._after[rows] = memory.outputs[NEXT_ENSEMBLE]
        actions = memory.outputs["actions"].copy()
        return ActionTrajectory.clean(
            actions, observation.step, observation.step, self.action_spec.dt
        )

    def _advance(self, observation: Observation) -> None:
        """Bring the ensembles of the rows to the control step before the observed one."""
        steps = observation.step.tolist()
        for row, step in zip(observation.rows.tolist(), steps, strict=True):
            observed, self._observed[row] = int(self._observed[row]), step
            moved = step - observed
            if observed == NOT_STARTED or moved < 0:
                self._before[row] = empty_ensemble(self.model, 1)[0]
            elif moved > 0:  # otherwise the same plan again, from the same ensemble
                length = max(self.model.config.chunk_size - (moved - 1), 0)
                self._before[row] = empty_ensemble(self.model, 1)[0]
                self._before[row, :length] = self._after[row, moved - 1 :]


def _join(observation: Observation, keys: dict, joined: np.ndarray) -> None:
    """Write the newest frame of all keys side by side to `joined`, shape (R, ..., size)."""
    begin = 0
    for key in keys:
        newest = observation.frames[key][:, -1]
        flat = newest.reshape(*joined.shape[:-1], -1)
        end = begin + flat.shape[-1]
        joined[..., begin:end] = flat
        begin = end
