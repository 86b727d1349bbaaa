"""Whether a dataset belongs to the task that a policy is trained for."""

from __future__ import annotations

import logging

import numpy as np

from ...decoding import ActionSpec
from ...envs.task import Task
from .environment import is_same_environment, recorded_environments
from .episodes import Episodes, blocks
from .robosuite_control import check_control
from .robosuite_version import check_robosuite
from .source import stated_rate

_LOG = logging.getLogger(__name__)
# Rounding is no reason to refuse a dataset, nor are a few overshoots of a teleoperator's hand.
TOLERANCE = 1e-3  # of an action's range
MAX_SHARE_OUTSIDE = 0.01
MAX_RATE_DIFFERENCE = 0.01


def check_matches_task(episodes: Episodes, task: Task, *, check: bool = True) -> None:
    """Raise ValueError if a policy trained on `episodes` could not act in `task`.

    Compared are the number of actions, the observation keys and their shapes, and, if the dataset
    says them, the environment that it was recorded in and the version of robosuite.

    Args:
        episodes: Demonstrations.
        task: What is trained for.
        check: Whether the environment and what actions mean there must be the same, not only the
            shapes.
    """
    source = episodes.metadata.get("source", "the dataset")
    found, expected = episodes.actions.shape[1], task.action_spec.size
    others = [
        told
        for told in recorded_environments(episodes.metadata)
        if not is_same_environment(told, task)
    ]
    if others and check:
        raise ValueError(
            f"{source} was recorded in {others[0]!r}, but it is to be trained for {task.name!r} "
            f"({task.simulator or 'no simulator named'}); choose the task that it was recorded in, "
            "or train on it all the same with task.check=false"
        )
    rate, period = stated_rate(episodes.metadata), task.action_spec.dt
    if check and rate and abs(rate * period - 1) > MAX_RATE_DIFFERENCE:
        raise ValueError(
            f"{source} was recorded at {rate:g} Hz, but {task.name!r} runs at {1 / period:g} Hz; "
            "resample it, or train on it all the same with task.check=false"
        )
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
    if check:
        check_control(episodes, task)


def check_actions(episodes: Episodes, spec: ActionSpec) -> None:
    """Compare demonstrated actions with the bounds that executed ones are clipped to.

    A few that lie outside are told in one warning.

    Raises:
        ValueError: If more than a hundredth of all numbers lies outside, naming range and share.
    """
    low, high = np.asarray(spec.low), np.asarray(spec.high)
    slack = TOLERANCE * (high - low)
    least, most = np.full(spec.size, np.inf), np.full(spec.size, -np.inf)
    num_outside = np.zeros(spec.size, np.int64)
    for rows in blocks(episodes.num_steps, 4 * spec.size):
        actions = np.asarray(episodes.actions[rows], np.float64)
        least, most = np.minimum(least, actions.min(axis=0)), np.maximum(most, actions.max(axis=0))
        num_outside += ((actions < low - slack) | (actions > high + slack)).sum(axis=0)
    share = num_outside.sum() / (episodes.num_steps * spec.size)
    if not share:
        return
    worst = int(np.argmax(num_outside))
    told = (
        f"{100 * share:.2g} % of the action values of "
        f"{episodes.metadata.get('source', 'the dataset')} lie outside of what the task takes, "
        f"e.g. {spec.names[worst]} from {least[worst]:.4g} to {most[worst]:.4g} instead of "
        f"{low[worst]:.4g} to {high[worst]:.4g}; executed actions are clipped"
    )
    if share > MAX_SHARE_OUTSIDE:
        raise ValueError(f"{told}. Scale them, or train on them as they are with task.check=false")
    _LOG.warning(told)
