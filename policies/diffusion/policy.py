"""Diffusion Policy (Chi et al. 2023): sample a window from noise, execute its first actions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...decoding import ActionSpec, ActionTrajectory, Observation
from ...decoding.fitted import FITTED
from ...decoding.samplers import sampling_levels
from ..programs.engines.engine import Engine, make_engine
from ..programs.engines.memory import Memory
from ..programs.program import Call, Program
from ..programs.rows import RowNoise
from .actions import ActionPort, Physical
from .config import DiffusionSampling
from .encoding import feature_ports
from .fitted import fitted_program
from .model import DiffusionModel
from .observed import Observed
from .reverse import noise_names, reverse_program


class ActionHead:
    """What the diffusion policies need at the numpy boundary.

    Args:
        model: Trained model.
        action_spec: Names, bounds and period of the actions.
        engine: How pictures are encoded between plans.

    Attributes:
        observed: The observations of all rows.
    """

    def __init__(self, model: DiffusionModel, action_spec: ActionSpec, engine: str) -> None:
        self.observed = Observed(model, engine)
        low, high = action_spec.float32_bounds
        self.physical = Physical(model.action_normalizer, model.num_past, low, high).eval()
        future = (model.config.horizon - model.num_past, model.action_dim)
        self.actions = ActionPort(future, scale=(high - low) / 2, rotations=model.config.rotations)

    def features(self, observation: Observation, key: str) -> np.ndarray:
        """Newest frame of one key, shape (R, F)."""
        newest = observation.frames[key][:, -1]
        return newest.reshape(len(newest), -1)


def check_num_execute(num_execute: int, model: DiffusionModel) -> None:
    """Raise ValueError unless a plan has so many actions from the present one on."""
    future = model.config.horizon - model.num_past
    if not 1 <= num_execute <= future:
        raise ValueError(f"num_execute must be between 1 and {future}, got {num_execute}")


def chosen_levels(model: DiffusionModel, sampling: DiffusionSampling) -> np.ndarray:
    """Integer levels that the calls of a plan visit, and 0."""
    num_levels = model.config.num_levels
    return sampling_levels(num_levels, sampling.calls_per_step or num_levels, sampling.spacing)


def sampling_program(model: DiffusionModel, sampling: DiffusionSampling) -> Program:
    """Observation and noise to a normalised window, by the chosen update.

    Raises:
        ValueError: If the model has no such steps.
    """
    if sampling.update == FITTED:
        return fitted_program(model, sampling.calls_per_step)
    vectors = [np.full(model.config.horizon, level) for level in chosen_levels(model, sampling)]
    return reverse_program(model, vectors, sampling.update)


def write_noise(noise: RowNoise, rows: np.ndarray, memory: Memory, names: list[str]) -> None:
    """Draw the noise of every call; a row draws it in the order of the calls."""
    if names:
        shape = memory.inputs[names[0]].shape[1:]
        drawn = noise.draw(rows, (len(names), *shape))
        for index, name in enumerate(names):
            memory.inputs[name][...] = drawn[:, index]


class DiffusionPolicy:
    """Receding-horizon diffusion policy.

    Args:
        model: Trained model.
        action_spec: Names, bounds and period of the actions.
        sampling: Network calls, update rule and executed actions.
        engine: How the network runs; see `engines`.
        noise: Where the rows draw from; None is a generator of each row's own.
    """

    def __init__(
        self,
        model: DiffusionModel,
        action_spec: ActionSpec,
        sampling: DiffusionSampling,
        engine: str = "eager",
        noise: RowNoise | None = None,
    ) -> None:
        self.action_spec, self.model, self.engine = action_spec, model, engine
        self.num_execute = sampling.num_execute
        self._head = ActionHead(model, action_spec, engine)
        self.observation_spec = self._head.observed.spec
        check_num_execute(self.num_execute, model)
        self.program = self._act(sampling_program(model, sampling))
        self._noise_names = noise_names(self.program)
        self._engine: Engine = make_engine(engine, self.program)
        self._noise = noise or RowNoise()

    def _act(self, program: Program) -> Program:
        """Let a program end in actions instead of a normalised window."""
        call = Call(self._head.physical, {"window": "window"}, ("actions",))
        outputs = {"actions": self._head.actions, **feature_ports(self.model)}
        return replace(program, outputs=outputs, calls=[*program.calls, call])

    @property
    def parity(self) -> float:
        """Largest difference of the engine from eager PyTorch, in normalised action units."""
        return self._engine.parity

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`; see `Policy.reset`."""
        self._noise.reset(seeds, rows)
        self._head.observed.reset(len(seeds), rows)

    def observe(self, observation: Observation) -> None:
        """Encode pictures between two plans; see `Observing.observe`."""
        self._head.observed.observe(observation)

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Sample H - To + 1 clean actions from the observed step on; see `Policy.plan`."""
        rows = observation.rows
        memory = self._engine.memory(len(rows))
        self._noise.fill(rows, memory.inputs["x"])
        write_noise(self._noise, rows, memory, self._noise_names)
        self._head.observed.write(observation, memory)
        memory.run()
        self._head.observed.keep(observation, memory)
        actions = memory.outputs["actions"].copy()
        return ActionTrajectory.clean(
            actions, observation.step, observation.step, self.action_spec.dt
        )
