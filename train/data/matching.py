"""Whether a dataset belongs to the task that a policy is trained for."""

from __future__ import annotations

from ...envs.registry import TASKS
from ...envs.task import Task
from .episodes import Episodes
from .robosuite_version import check_robosuite


def check_matches_task(episodes: Episodes, task: Task) -> None:
    """Raise ValueError if a policy trained on `episodes` could not act in `task`.

    Compared are the number of actions, the observation keys and their shapes, and, if the dataset
    says them, the task that it was recorded in and the version of robosuite.
    """
    source = episodes.metadata.get("source", "the dataset")
    recorded_in = TASKS.get(str(episodes.metadata.get("task")))
    if recorded_in is not None and recorded_in.action_spec != task.action_spec:
        raise ValueError(
            f"{source} was recorded in {recorded_in.name!r}, which takes other actions than "
            f"{task.name!r}: {', '.join(recorded_in.action_spec.names)}"
        )
    found, expected = episodes.actions.shape[1], task.action_spec.size
    if found != expected:
        raise ValueError(
            f"{source} is of another environment than {task.name!r}: its actions have {found} "
            f"numbers, the task's {expected}"
        )
    for key, array in episodes.observations.items():
        if key not in task.observation_shapes:
            raise ValueError(
                f"{source} has {key!r}, which {task.name!r} does not observe; choose columns with "
                f"task.keys, the task has {', '.join(task.observation_shapes)}"
            )
        if array.shape[1:] != tuple(task.observation_shapes[key]):
            raise ValueError(
                f"{source} is of another environment than {task.name!r}: {key!r} has shape "
                f"{array.shape[1:]}, the task's {tuple(task.observation_shapes[key])}"
            )
    check_robosuite(episodes.metadata)
