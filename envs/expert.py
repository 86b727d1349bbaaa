"""Experts: scripted controllers and trained agents that provide demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from .arm_experts import make_reach_expert
from .maze2d import make_wandering_expert
from .metaworld_experts import make_tabletop_expert
from .pillars import make_pillars_expert
from .registry import make_task
from .robosuite_experts import make_can_expert, make_lift_expert, make_square_expert
from .task import Environment
from .trained_agent import load_agent
from .waypoint_controller import make_waypoint_expert


class Expert(Protocol):
    """Chooses actions from the frames of one environment."""

    def reset(self, frame: Mapping[str, np.ndarray], seed: int) -> None:
        """Begin an episode with its first frame; `seed` determines the expert's own choices."""
        ...

    def act(self, frame: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the action for a frame, shape (D,), within the task's action spec."""
        ...


@dataclass(frozen=True)
class ScriptedExpert:
    """A controller that needs no file.

    Attributes:
        make: Builds it for an environment of its task.
        name: What a dataset's provenance calls it.
        record_intended: Whether demonstrations hold what the expert asked for rather than what was
            executed with noise. The former teaches imitation how to come back from disturbed
            states (DART, Laskey et al. 2017); the latter fits the states and rewards that follow,
            as planners need it.
        action_noise: Standard deviation of the noise unless told otherwise, see `record_episode`.
        records: Observation keys that demonstrations hold, by default all.
    """

    make: Callable[[Environment], Expert]
    name: str
    record_intended: bool = True
    action_noise: float = 0.0
    records: Sequence[str] | None = None


_WAYPOINTS = ScriptedExpert(make_waypoint_expert, "waypoint controller")
# As in D4RL's files, which leave out the goal of the task: it is the same in every episode.
_WANDERING = ScriptedExpert(
    make_wandering_expert,
    "waypoint controller towards random places",
    record_intended=False,
    action_noise=0.3,
    records=("observation.state",),
)
_TABLETOP = ScriptedExpert(make_tabletop_expert, "Meta-World's scripts", action_noise=0.2)
_person = partial(ScriptedExpert, name="script, as varied as people", record_intended=False)
SCRIPTED_EXPERTS: dict[str, ScriptedExpert] = {
    "pillars": ScriptedExpert(make_pillars_expert, "bows round the pillars", action_noise=0.15),
    "pointmaze-umaze": _WAYPOINTS,
    "pointmaze-medium": _WAYPOINTS,
    "pointmaze-large": _WAYPOINTS,
    "maze2d-umaze": _WANDERING,
    "maze2d-medium": _WANDERING,
    "maze2d-large": _WANDERING,
    "metaworld-tabletop": _TABLETOP,
    "metaworld-tabletop-wrist": _TABLETOP,
    "lift": _person(make_lift_expert),
    "can": _person(make_can_expert),
    "square": _person(make_square_expert),
    "pybullet-reach": ScriptedExpert(make_reach_expert, "scripted reach", record_intended=False),
}


def trained_expert(task_name: str, file: Path) -> Expert:
    """Load a trained agent for a task.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or the agent of another environment.
    """
    agent, task = load_agent(file), make_task(task_name)
    expected = (task.observation_shapes["observation.state"], (task.action_spec.size,))
    found = ((agent.observation_size,), (agent.action_size,))
    if found != expected:
        raise ValueError(
            f"{file}: this agent reads {found[0][0]} numbers and returns {found[1][0]}, but task "
            f"{task_name!r} has {expected[0][0]} and {expected[1][0]}: an agent of another "
            "environment?"
        )
    return agent
