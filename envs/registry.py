"""Tasks by name."""

from __future__ import annotations

import difflib

from .adroit import ADROIT_TASKS
from .antmaze import ANTMAZE_TASKS
from .kitchen import KITCHEN_TASKS
from .locomotion import LOCOMOTION_TASKS
from .maze2d import MAZE2D_TASKS
from .metaworld import METAWORLD_TASKS
from .pillars import PILLARS_TASK
from .pointmaze import POINTMAZE_TASKS
from .pusht import PUSHT
from .pybullet_arm import PYBULLET_TASKS
from .robosuite_arm import ROBOSUITE_TASKS
from .task import Task

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        PUSHT,
        PILLARS_TASK,
        *POINTMAZE_TASKS,
        *MAZE2D_TASKS,
        *LOCOMOTION_TASKS,
        *ANTMAZE_TASKS,
        *KITCHEN_TASKS,
        *ADROIT_TASKS,
        *METAWORLD_TASKS,
        *ROBOSUITE_TASKS,
        *PYBULLET_TASKS,
    )
}


def make_task(name: str) -> Task:
    """Return the task called `name`, without starting its simulator.

    Raises:
        ValueError: If there is no such task; the message names the nearest ones.
    """
    if name not in TASKS:
        nearest = difflib.get_close_matches(name, TASKS, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
        raise ValueError(f"unknown task {name!r}; {hint}Tasks: {', '.join(TASKS)}")
    return TASKS[name]
