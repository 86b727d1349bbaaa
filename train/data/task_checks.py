"""Whether a dataset can be of the task that it says, or that it is to be used for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...envs.registry import TASKS, make_task
from ...envs.robosuite_tasks import takes_poses
from ...envs.task import Task
from .columns import Column
from .environment import is_same_environment, recorded_environment
from .robosuite_control import ABSOLUTE_COLUMN, control_problems
from .selection import Wanted
from .source import DatasetFile, stated_rate

_TOLERANCE = 1e-4  # of the range of an action, that rounding may leave it by
_RATE_TOLERANCE = 0.01

Ranges = Mapping[str, tuple[np.ndarray, np.ndarray]]


def task_problems(
    file: DatasetFile, facts: Mapping[str, Any], ranges: Ranges, name: str
) -> Iterator[str]:
    """What a dataset has otherwise than its task.

    Args:
        file: Open dataset.
        facts: Its metadata.
        ranges: Smallest and largest value of each number of a step, by column.
        name: Task to hold it against; empty for the one that the metadata say.

    Raises:
        ValueError: If there is no task `name`.
    """
    stated = facts.get("task")
    if name and isinstance(stated, str) and stated in TASKS.names and stated != name:
        yield f"the metadata say task {stated!r}, not {name!r}"
    name = name or (stated if isinstance(stated, str) and stated in TASKS.names else "")
    if not name:
        return
    task, environment = make_task(name), recorded_environment(facts)
    if environment and not is_same_environment(environment, task):
        yield f"recorded in {environment!r}, task {name!r} runs in {task.simulator!r}"
    keys = file.select(None, Wanted(pictures=True, instruction=True))
    action = file.column(keys["action"].column)
    if takes_poses(task) and ABSOLUTE_COLUMN in file.names:
        action = file.column(ABSOLUTE_COLUMN)
        facts = {**facts, "absolute_actions": True}
    yield from control_problems(facts, task)
    if action.num_features != task.action_spec.size:
        yield (
            f"actions have {action.num_features} numbers, task {task.name!r} takes "
            f"{task.action_spec.size}"
        )
    elif action.name in ranges:
        yield from _bound_problems(action, ranges[action.name], task)
    for key, selection in keys.items():
        shape = selection.shape or file.column(selection.column).shape
        expected = task.observation_shapes.get(key)
        if expected is not None and int(np.prod(shape)) != int(np.prod(expected)):
            yield f"{key!r} has shape {shape}, in task {task.name!r} it has {tuple(expected)}"
    rate = stated_rate(facts)
    if rate and abs(rate * task.action_spec.dt - 1) > _RATE_TOLERANCE:
        yield (
            f"the metadata say {rate:g} Hz, task {task.name!r} runs at "
            f"{1 / task.action_spec.dt:g} Hz"
        )


def _bound_problems(
    action: Column, found: tuple[np.ndarray, np.ndarray], task: Task
) -> Iterator[str]:
    """Actions beyond what the task takes, which are clipped when they are executed."""
    low, high = np.asarray(task.action_spec.low), np.asarray(task.action_spec.high)
    slack = _TOLERANCE * (high - low)
    outside = np.flatnonzero((found[0] < low - slack) | (found[1] > high + slack))
    if outside.size:
        worst = int(outside[0])
        yield (
            f"column {action.name!r}: {outside.size} of {len(low)} actions leave the bounds of "
            f"task {task.name!r}, the first is {task.action_spec.names[worst]!r}, "
            f"{found[0][worst]:.4g} to {found[1][worst]:.4g} instead of {low[worst]:.4g} to "
            f"{high[worst]:.4g}"
        )
