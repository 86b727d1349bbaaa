"""MuJoCo robots that learn to run: hopper, walker2d, halfcheetah and ant (Gymnasium).

Version 4 of the environments keeps the physics and rewards of versions 2 and 3, with which D4RL's
data and reference returns were recorded; version 5 has other foot friction in walker2d and other
rewards for falling. Ant's observation leaves out contact forces: the MuJoCo of D4RL's time
reported them as zeros.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..decoding import ActionSpec
from .d4rl_scores import REFERENCE_SCORES
from .gymnasium_env import Frame, GymnasiumEnvironment, make_gymnasium_env
from .task import Task

MAX_STEPS = 1000


def _make(env_id: str, name: str) -> GymnasiumEnvironment:
    return GymnasiumEnvironment(
        make_gymnasium_env(env_id),
        REFERENCE_SCORES[name],
        observe=_observe,
        solved=lambda info, score: score >= 1,
    )


def _observe(observation: np.ndarray) -> Frame:
    return {"observation.state": observation.astype(np.float32)}


def _task(env_id: str, num_features: int, dt: float, torques: dict[str, int]) -> Task:
    name = env_id.split("-")[0].lower()
    return Task(
        name=name,
        action_spec=ActionSpec(
            names=tuple(f"{joint} torque [{torque} N m]" for joint, torque in torques.items()),
            low=(-1.0,) * len(torques),
            high=(1.0,) * len(torques),
            dt=dt,
        ),
        observation_shapes={"observation.state": (num_features,), "reward": (1,)},
        max_steps=MAX_STEPS,
        metric="D4RL score",
        make=partial(_make, env_id, name),
        reference=REFERENCE_SCORES[name],
        simulator=env_id,
    )


HOPPER = _task("Hopper-v4", 11, 0.008, {"thigh": 200, "leg": 200, "foot": 200})
WALKER2D = _task(
    "Walker2d-v4",
    17,
    0.008,
    {f"{side} {joint}": 100 for side in ("right", "left") for joint in ("thigh", "leg", "foot")},
)
HALFCHEETAH = _task(
    "HalfCheetah-v4",
    17,
    0.05,
    {
        "back thigh": 120,
        "back shin": 90,
        "back foot": 60,
        "front thigh": 120,
        "front shin": 60,
        "front foot": 30,
    },
)
# In the order of the model's actuators, which starts with the last leg.
_ANT_LEGS = ("back right", "front left", "front right", "back left")
ANT = _task(
    "Ant-v4",
    27,
    0.05,
    {f"{leg} {joint}": 150 for leg in _ANT_LEGS for joint in ("hip", "ankle")},
)
LOCOMOTION_TASKS = (HOPPER, WALKER2D, HALFCHEETAH, ANT)
