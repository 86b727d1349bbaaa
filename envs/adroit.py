"""Adroit: a hand with 24 joints turns a pen, opens a door, hammers a nail, moves a ball.

Tasks of Rajeswaran et al. 2018 in gymnasium-robotics (MuJoCo), with D4RL's time limits. An episode
never ends early; it is a success if the goal was reached at some step.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..decoding import ActionSpec
from .d4rl_scores import REFERENCE_SCORES
from .gymnasium_env import Frame, GymnasiumEnvironment, make_gymnasium_env
from .task import Task

# Names of the model's actuators: arm translation and rotation, wrist, then first, middle, ring and
# little finger and thumb, each joint from the knuckle outwards.
_HAND = (
    *("WRJ1", "WRJ0"),
    *("FFJ3", "FFJ2", "FFJ1", "FFJ0"),
    *("MFJ3", "MFJ2", "MFJ1", "MFJ0"),
    *("RFJ3", "RFJ2", "RFJ1", "RFJ0"),
    *("LFJ4", "LFJ3", "LFJ2", "LFJ1", "LFJ0"),
    *("THJ4", "THJ3", "THJ2", "THJ1", "THJ0"),
)
_ROTATION = ("ARRx", "ARRy", "ARRz")


def _make(name: str, max_steps: int) -> GymnasiumEnvironment:
    env = make_gymnasium_env(_env_id(name), robotics=True, max_episode_steps=max_steps)
    return GymnasiumEnvironment(
        env,
        REFERENCE_SCORES[name],
        observe=_observe,
        solved=lambda info, score: info["success"],
        infos=_state,
    )


def _env_id(name: str) -> str:
    return f"AdroitHand{name.capitalize()}-v1"


def _observe(observation: np.ndarray) -> Frame:
    return {"observation.state": observation.astype(np.float32)}


def _state(simulator: Any) -> dict[str, np.ndarray]:
    return {key: np.array(value) for key, value in simulator.get_env_state().items()}


def _task(name: str, num_features: int, max_steps: int, arm: tuple[str, ...]) -> Task:
    joints = arm + _HAND
    return Task(
        name=name,
        action_spec=ActionSpec(
            # Actions are targets, from one end of the joint's control range to the other.
            names=tuple(f"{joint} target [half its range]" for joint in joints),
            low=(-1.0,) * len(joints),
            high=(1.0,) * len(joints),
            dt=0.01,
        ),
        observation_shapes={"observation.state": (num_features,), "reward": (1,)},
        max_steps=max_steps,
        metric="D4RL score",
        make=partial(_make, name, max_steps),
        reference=REFERENCE_SCORES[name],
        simulator=_env_id(name),
    )


ADROIT_TASKS = (
    _task("pen", 45, 100, ()),
    _task("door", 39, 200, ("ARTz", *_ROTATION)),
    _task("hammer", 46, 200, _ROTATION[:2]),
    _task("relocate", 39, 200, ("ARTx", "ARTy", "ARTz", *_ROTATION)),
)
