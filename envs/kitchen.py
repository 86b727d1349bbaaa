"""FrankaKitchen: a Panda arm works through four chores in a kitchen (gymnasium-robotics, MuJoCo).

Every chore earns 1 when it is done for the first time; the episode ends with the fourth. D4RL's
``complete`` and ``partial`` datasets belong to `kitchen`, its ``mixed`` ones to `kitchen-mixed`.
The observation is gymnasium-robotics' 59 numbers (positions and velocities of robot and objects),
not D4RL's 60 (positions and goals).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from ..decoding import ActionSpec
from .d4rl_scores import REFERENCE_SCORES
from .gymnasium_env import Frame, GymnasiumEnvironment, make_gymnasium_env
from .task import Task

MAX_STEPS = 280
CHORES = {
    "kitchen": ("microwave", "kettle", "light switch", "slide cabinet"),
    "kitchen-mixed": ("microwave", "kettle", "bottom burner", "light switch"),
}


def _make(chores: tuple[str, ...]) -> GymnasiumEnvironment:
    env = make_gymnasium_env(
        "FrankaKitchen-v1",
        robotics=True,
        max_episode_steps=MAX_STEPS,
        tasks_to_complete=list(chores),
    )
    return GymnasiumEnvironment(
        env, REFERENCE_SCORES["kitchen"], observe=_observe, solved=lambda info, score: score >= 1
    )


def _observe(observation: Mapping[str, np.ndarray]) -> Frame:
    return {"observation.state": observation["observation"].astype(np.float32)}


def _task(name: str) -> Task:
    joints = tuple(f"joint {index} velocity [2 rad/s]" for index in range(1, 8))
    fingers = ("right finger velocity [2 m/s]", "left finger velocity [2 m/s]")
    return Task(
        name=name,
        action_spec=ActionSpec(joints + fingers, low=(-1.0,) * 9, high=(1.0,) * 9, dt=0.08),
        observation_shapes={"observation.state": (59,), "reward": (1,)},
        max_steps=MAX_STEPS,
        metric="share of four chores done",
        make=partial(_make, CHORES[name]),
        reference=REFERENCE_SCORES["kitchen"],
        simulator="FrankaKitchen-v1",
    )


KITCHEN_TASKS = tuple(map(_task, CHORES))
