"""What comes out of a replay, and what every replay checks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...envs.task import Task

STATE_TOLERANCE = 1e-3  # largest deviation of a state, relative to 1 or its own size


@dataclass(frozen=True)
class ReplayedEpisode:
    """How one demonstration went again.

    Attributes:
        name: Which demonstration.
        num_steps: Control steps that were replayed.
        success: Whether the task was solved in the replay.
        state_error: Largest deviation from a recorded state, relative to 1 or the state's size.
        return_error: Replayed minus recorded return; None where rewards are not recorded.
    """

    name: str
    num_steps: int
    success: bool
    state_error: float
    return_error: float | None = None

    @property
    def reproduced(self) -> bool:
        """Whether every state came out as recorded."""
        return self.state_error <= STATE_TOLERANCE


@dataclass(frozen=True)
class Replay:
    """All replayed demonstrations of a file.

    Attributes:
        task: Name of the task that they were replayed in.
        episodes: One entry per demonstration.
        notes: What the user should know, such as a version that differs.
        by_success: Whether a demonstration that solves its task counts as reproduced, although its
            states deviate: contacts of another robosuite or MuJoCo never agree to the last digit.
    """

    task: str
    episodes: tuple[ReplayedEpisode, ...]
    notes: tuple[str, ...] = ()
    by_success: bool = False

    @property
    def reproduced(self) -> bool:
        """Whether every demonstration was reproduced."""
        return all(one.reproduced or (self.by_success and one.success) for one in self.episodes)


def check_actions(actions: np.ndarray, task: Task, where: str) -> None:
    """Raise ValueError unless `task` can take the actions."""
    if actions.ndim != 2 or actions.shape[1] != task.action_spec.size:
        raise ValueError(
            f"{where}: task {task.name!r} takes {task.action_spec.size} action dimensions, the "
            f"dataset has actions of shape {actions.shape}: another task?"
        )
    if not np.isfinite(actions).all():
        raise ValueError(f"{where}: the actions hold NaN or infinite values")


def deviation(reached: np.ndarray, recorded: np.ndarray) -> float:
    """Largest difference, relative to 1 or the recorded number; infinite if sizes disagree."""
    if reached.shape != recorded.shape:
        return float("inf")
    return float(np.max(np.abs(reached - recorded) / np.maximum(1.0, np.abs(recorded))))
