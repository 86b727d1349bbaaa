"""Tasks by name: those of hotloop, those of installed plugins, and ``module:Name``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..decoding.plumbing.plugins import Registry

if TYPE_CHECKING:
    from .task import Task

# One line per simulator: where its tasks are, and their names, which need no import to be listed.
_INCLUDED = {
    "pusht:PUSHT_TASKS": ("pusht", "pusht-image"),
    "pillars:PILLARS_TASK": ("pillars",),
    "pointmaze:POINTMAZE_TASKS": ("pointmaze-umaze", "pointmaze-medium", "pointmaze-large"),
    "maze2d:MAZE2D_TASKS": ("maze2d-umaze", "maze2d-medium", "maze2d-large"),
    "locomotion:LOCOMOTION_TASKS": ("hopper", "walker2d", "halfcheetah", "ant"),
    "antmaze:ANTMAZE_TASKS": ("antmaze-umaze", "antmaze-medium", "antmaze-large"),
    "kitchen:KITCHEN_TASKS": ("kitchen", "kitchen-mixed"),
    "adroit:ADROIT_TASKS": ("pen", "door", "hammer", "relocate"),
    "metaworld:METAWORLD_TASKS": (
        "metaworld-tabletop",
        "metaworld-tabletop-wrist",
        "metaworld-tabletop-shuffled",
    ),
    "robosuite_tasks:ROBOSUITE_TASKS": (
        *("lift", "can", "square"),
        *("lift-image", "can-image", "square-image"),
        *("lift-abs", "can-abs", "square-abs"),
        *("lift-abs-image", "can-abs-image", "square-abs-image"),
    ),
    "pybullet_arm:PYBULLET_TASKS": ("pybullet-reach", "pybullet-push"),
}

TASKS: Registry[Task | Iterable[Task]] = Registry(
    "hotloop.tasks",
    "task",
    {name: place for place, names in _INCLUDED.items() for name in names},
    str(__package__),
)


def make_task(name: str) -> Task:
    """Return the task called `name`, without starting its simulator.

    Args:
        name: One of hotloop's, of a plugin's (a `Task`, or several, in the entry-point group
            ``hotloop.tasks``), or ``module:Name`` of a `Task`.

    Raises:
        ValueError: If there is no such task, naming the nearest one, or if it is none.
        ImportError: If its module cannot be imported.
    """
    from .task import Task

    found = TASKS.get(name)
    if isinstance(found, Task):
        return found
    members = found if isinstance(found, Iterable) else ()
    named = {task.name: task for task in members if isinstance(task, Task)}
    if name not in named:
        tasks = f" of {', '.join(named)}" if named else ""
        raise ValueError(
            f"task {name!r} is no hotloop.envs.Task but a {type(found).__name__}{tasks}"
        )
    return named[name]
