"""The robosuite tasks: Lift, Can and Square, from states or pictures, by deltas or to poses."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..decoding import ActionSpec
from .robosuite_arm import CONTROL_HZ, HORIZON, ROBOT_SHAPES, RobosuiteArm
from .robosuite_cameras import CAMERAS, IMAGE_SIZE
from .task import Task

_LOWEST, _HIGHEST = (-1.5, -1.0, 0.0), (0.5, 1.0, 2.2)  # [m], beyond what the arm reaches
_FINGERS = "fingers [open -1, close 1]"
_SEEING_AT_A_TIME = 10  # about 0.4 GB each


def _delta_spec() -> ActionSpec:
    names = (
        *(f"hand d{axis} [0.05 m]" for axis in "xyz"),
        *(f"hand turn {axis} [0.5 rad]" for axis in "xyz"),
        _FINGERS,
    )
    return ActionSpec(names, low=(-1.0,) * 7, high=(1.0,) * 7, dt=1 / CONTROL_HZ)


def _absolute_spec() -> ActionSpec:
    names = (
        *(f"hand {axis} [m]" for axis in "xyz"),
        *(f"hand rotation vector {axis} [rad]" for axis in "xyz"),
        _FINGERS,
    )
    low, high = (*_LOWEST, *(-np.pi,) * 3, -1.0), (*_HIGHEST, *(np.pi,) * 3, 1.0)
    return ActionSpec(names, low, high, dt=1 / CONTROL_HZ)


def takes_poses(task: Task) -> bool:
    """Whether the actions of a task say where the hand shall be, see `RobosuiteArm`."""
    return task.action_spec == _absolute_spec()


def _tasks(name: str, env_name: str, object_size: int) -> Iterator[Task]:
    """A task's four forms: from the object's state or from pictures, by deltas or to poses."""
    hand: dict[str, tuple[int, ...]] = {f"observation.{k}": v for k, v in ROBOT_SHAPES.items()}
    shape = (IMAGE_SIZE, IMAGE_SIZE, 3)
    seen = {
        "": {"observation.object": (object_size,)},
        "-image": {f"observation.{camera}_image": shape for camera in CAMERAS},
    }
    for absolute, spec in ((False, _delta_spec()), (True, _absolute_spec())):
        for suffix, shapes in seen.items():
            yield Task(
                name=f"{name}{'-abs' if absolute else ''}{suffix}",
                action_spec=spec,
                observation_shapes=hand | shapes,
                max_steps=HORIZON,
                metric="task solved",
                make=partial(RobosuiteArm, env_name, bool(suffix), absolute),
                simulator=f"robosuite {env_name}, Panda, OSC_POSE",
                side_by_side=_SEEING_AT_A_TIME if suffix else Task.side_by_side,
            )


ROBOSUITE_TASKS = (
    *_tasks("lift", "Lift", 10),
    *_tasks("can", "PickPlaceCan", 14),
    *_tasks("square", "NutAssemblySquare", 14),
)
