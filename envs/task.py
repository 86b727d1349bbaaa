"""What a task is: an environment to act in, its spaces in physical units, and its score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from ..decoding import ActionSpec
from .d4rl_scores import ReferenceScores


class Environment(Protocol):
    """One simulated robot, stepped at its control period.

    A frame holds one float32 array per observation key of the task, in physical units.
    """

    @property
    def score(self) -> float:
        """How well the episode went so far, as the task's metric defines it.

        From 0 to 1, except that normalised returns may lie beyond their reference.
        """
        ...

    @property
    def success(self) -> bool:
        """Whether the task was solved in this episode."""
        ...

    @property
    def terminated(self) -> bool:
        """Whether the last step led to a terminal state: solved or failed, not out of time."""
        ...

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Start the episode that `seed` determines and return its first frame."""
        ...

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool]:
        """Apply an action, shape (D,), for one control period.

        Returns:
            The next frame, the reward, and whether the episode is over: terminated or out of time.
        """
        ...

    def render(self) -> np.ndarray:
        """Picture of the scene, uint8 RGB, shape (height, width, 3)."""
        ...

    def close(self) -> None:
        """Release the simulator."""
        ...


@runtime_checkable
class DrawsOnDemand(Protocol):
    """An environment whose pictures take long, and which leaves out those that nobody reads.

    Attributes:
        drawn: Whether `step` draws; else its frame holds the pictures that were drawn last.
            `reset` always draws.
    """

    drawn: bool


class EndsWhenSolved:
    """Outcome of an environment whose episodes end as soon as their task is solved.

    Whoever inherits sets `_success`: False when an episode starts, True when the task is solved.
    """

    _success = False

    @property
    def score(self) -> float:
        """1 if the task was solved, else 0."""
        return float(self._success)

    @property
    def success(self) -> bool:
        """Whether the task was solved in this episode."""
        return self._success

    @property
    def terminated(self) -> bool:
        """Whether the last step solved the task."""
        return self._success


@dataclass(frozen=True)
class Task:
    """A named environment with everything that is known without starting its simulator.

    Attributes:
        name: Name that `make_task` knows it by.
        action_spec: Actions the environment takes.
        observation_shapes: Shape of one frame per observation key.
        max_steps: Control steps after which an unsolved episode ends.
        metric: What the score of an episode is.
        make: Starts the simulator.
        reference: Returns that count as score 0 and 1, where the score is a normalised return; it
            is then printed as D4RL does, times 100.
        simulator: The simulator's own name of the environment, with its version.
        side_by_side: Environments that an evaluation runs at a time unless it is told otherwise;
            fewer where each takes much memory.
    """

    name: str
    action_spec: ActionSpec
    observation_shapes: Mapping[str, tuple[int, ...]]
    max_steps: int
    metric: str
    make: Callable[[], Environment]
    reference: ReferenceScores | None = None
    simulator: str = ""
    side_by_side: int = 50
