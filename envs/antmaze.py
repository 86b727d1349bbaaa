"""AntMaze: a four-legged robot walks through a maze to a goal (gymnasium-robotics, MuJoCo).

Start and goal are in the opposite corners that D4RL evaluates in, at a place in their cell that
the seed determines. An episode ends within 0.45 m of the goal, with its only reward: 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .d4rl_scores import REFERENCE_SCORES
from .gymnasium_env import Frame, GymnasiumEnvironment, make_gymnasium_env
from .locomotion import ANT
from .task import Task

# Row and column of start and goal.
_CELLS = {
    "UMaze": ((1, 1), (3, 1)),
    "Medium": ((1, 1), (6, 6)),
    "Large": ((1, 1), (7, 10)),
}


def _make(size: str, max_steps: int) -> GymnasiumEnvironment:
    env: Any = make_gymnasium_env(
        f"AntMaze_{size}-v4", robotics=True, max_episode_steps=max_steps, continuing_task=False
    )
    # The simulator has read the model that was written for it; nobody else would remove it.
    Path(env.unwrapped.tmp_xml_file_path).unlink(missing_ok=True)
    start, goal = map(np.array, _CELLS[size])
    return GymnasiumEnvironment(
        env,
        REFERENCE_SCORES[f"antmaze-{size.lower()}"],
        observe=_observe,
        solved=lambda info, score: info["success"],
        reset_options={"reset_cell": start, "goal_cell": goal},
    )


def _observe(observation: Mapping[str, np.ndarray]) -> Frame:
    state = np.concatenate([observation["achieved_goal"], observation["observation"]])
    return {
        "observation.state": state.astype(np.float32),
        "observation.goal": observation["desired_goal"].astype(np.float32),
    }


def _task(size: str, max_steps: int) -> Task:
    name = f"antmaze-{size.lower()}"
    return Task(
        name=name,
        action_spec=ANT.action_spec,
        observation_shapes={
            "observation.state": (29,),
            "observation.goal": (2,),
            "reward": (1,),
        },
        max_steps=max_steps,
        metric="D4RL score",
        make=partial(_make, size, max_steps),
        reference=REFERENCE_SCORES[name],
        simulator=f"AntMaze_{size}-v4",
    )


ANTMAZE_TASKS = (_task("UMaze", 700), _task("Medium", 1000), _task("Large", 1000))
