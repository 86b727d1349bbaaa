"""Whatever an installed LeRobot has, as a policy of hotloop's own: SmolVLA, pi0, and all others.

The network runs as LeRobot runs it, in this process. What it gains is what surrounds a policy: the
executor, latency handling, limits and log.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ...decoding import ActionSpec, ActionTrajectory, Observation, ObservationSpec
from ...decoding.instruction import INSTRUCTION_KEY
from ..checkpoint import Checkpoint
from ..kinds import Kind
from ..programs.rows import check_reset
from .folder import CONFIG_FILE, INSTALLED, find_folder
from .given import Given
from .installed import ACTION, InstalledModel
from .processors import Affine, Processors

KIND = "lerobot"


@dataclass(frozen=True)
class InstalledSampling:
    """How a policy's chunks are executed; everything else is in its folder.

    Attributes:
        num_execute: Actions executed per chunk.
    """

    num_execute: int = 1

    def __post_init__(self) -> None:
        """Reject numbers that are none."""
        if self.num_execute < 1:
            raise ValueError(f"num_execute must be at least 1, got {self.num_execute}")


class LeRobotPolicy:
    """Any policy of an installed LeRobot behind hotloop's contract.

    Rows are planned for one after the other, so that each depends on its own seed alone.

    Args:
        model: The policy as LeRobot made it.
        action_spec: Names, bounds and period of the actions; they are clipped to the bounds.
        sampling: Executed actions.
        engine: ``"eager"``, as LeRobot decides itself how its network runs.

    Raises:
        ValueError: If the choices do not fit the policy, or its actions not their description.
    """

    def __init__(
        self,
        model: InstalledModel,
        action_spec: ActionSpec,
        sampling: InstalledSampling,
        engine: str = "eager",
    ) -> None:
        if engine != "eager":
            raise ValueError(
                f"LeRobot decides how its own networks run, so engine must be 'eager', got "
                f"{engine!r}; what hotloop reads itself is opened without {INSTALLED}"
            )
        self.action_spec, self.model, self.engine = action_spec, model, engine
        self.num_execute = sampling.num_execute
        self.observation_spec = ObservationSpec(model.observation_shapes, model.num_obs_steps)
        self._seeds = np.zeros(0, np.int64)
        self._num_plans = np.zeros(0, np.int64)
        self._low, self._high = action_spec.float32_bounds
        # Before a robot moves: whatever fails at the first plan fails here.
        self._check(model.chunk([self._blank()] * model.num_obs_steps, seed=0))

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Start an episode in each of `rows`; see `Policy.reset`."""
        if rows is None:
            rows = np.arange(len(seeds))
            self._seeds, self._num_plans = (np.zeros(len(seeds), np.int64) for _ in range(2))
        self._seeds[rows], self._num_plans[rows] = seeds, 0

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        """Plan a chunk from the observed step on; see `Policy.plan`."""
        rows = observation.rows
        check_reset(rows, len(self._seeds))
        chunks = []
        for index, row in enumerate(rows.tolist()):
            frames = [
                {key: values[index, age] for key, values in observation.frames.items()}
                for age in range(self.observation_spec.num_steps)
            ]
            drawn = np.random.SeedSequence([int(self._seeds[row]), int(self._num_plans[row])])
            chunks.append(self.model.chunk(frames, int(drawn.generate_state(1)[0])))
            self._num_plans[row] += 1
        actions = np.clip(np.stack(chunks), self._low, self._high)
        return ActionTrajectory.clean(
            actions, observation.step, observation.step, self.action_spec.dt
        )

    def _blank(self) -> dict[str, np.ndarray]:
        """A frame of nothing."""
        spec = self.observation_spec
        frame = {key: np.zeros(shape, spec.dtype(key)) for key, shape in spec.shapes.items()}
        if INSTRUCTION_KEY in frame:
            frame[INSTRUCTION_KEY][0] = ord(".")
        return frame

    def _check(self, chunk: np.ndarray) -> None:
        if chunk.ndim != 2 or chunk.shape[1] != self.action_spec.size:
            raise ValueError(
                f"LeRobot's policy gives actions of shape {chunk.shape}, expected (steps, "
                f"{self.action_spec.size})"
            )
        if not self.num_execute <= len(chunk):
            raise ValueError(
                f"num_execute must be between 1 and {len(chunk)}, the actions of a chunk, got "
                f"{self.num_execute}"
            )


def open_installed(path: Path, given: Given) -> Checkpoint:
    """A LeRobot folder as a checkpoint whose network LeRobot runs.

    Raises:
        ImportError: If LeRobot, or what it needs for this type of policy, is not installed.
        OSError: If there is no such folder, or a file is missing.
        ValueError: If LeRobot cannot read it, or something is not given that it does not hold.
    """
    folder = find_folder(path)
    if folder is None:
        raise FileNotFoundError(
            f"no LeRobot checkpoint at {path} (a folder with {CONFIG_FILE} that names a type)"
        )
    model = InstalledModel(folder)
    if getattr(model.config, "temporal_ensemble_coeff", None) is not None:
        raise ValueError(
            f"{path} averages its chunks, which LeRobot does outside of them; open it without "
            f"{INSTALLED}"
        )
    statistics = model.statistics()
    size = int(np.prod(model.config.output_features[ACTION].shape))
    identity = Affine(np.ones(size), np.zeros(size), np.zeros(size))
    low, high = statistics.get("min"), statistics.get("max")
    action_spec = Processors({}, identity, low, high).action_spec(given)
    sampling = InstalledSampling(model.num_execute)
    return Checkpoint(KIND, model, action_spec, sampling, {"source": "lerobot"})


@dataclass(frozen=True)
class _NotStored:
    """What hotloop's own checkpoints hold of such a model: nothing."""


def _refuse(*stored: Any) -> NoReturn:
    del stored
    raise ValueError(f"kind {KIND!r} is no kind of a stored checkpoint; give {INSTALLED}FOLDER")


LEROBOT = Kind(_NotStored, _refuse, InstalledSampling, LeRobotPolicy)
