"""Whether a dataset belongs to the task that a policy is trained for."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...decoding import ActionSpec
from ...envs.registry import TASKS, make_task
from ...envs.task import Task
from .episodes import Episodes, blocks
from .formats.robomimic import check_robosuite

_LOG = logging.getLogger(__name__)
# Rounding is no reason to refuse a dataset, nor are a few overshoots of a teleoperator's hand.
TOLERANCE = 1e-3  # of an action's range
MAX_SHARE_OUTSIDE = 0.01
# What may follow an environment's name and leave its world as it is: rewards and starts.
VARIANTS = ("_", "Dense", "Sparse")


def check_matches_task(episodes: Episodes, task: Task, *, check: bool = True) -> None:
    """Raise ValueError if a policy trained on `episodes` could not act in `task`.

    Compared are the number of actions, the observation keys and their shapes, and, if the dataset
    says them, the environment that it was recorded in and the version of robosuite.

    Args:
        episodes: Demonstrations.
        task: What is trained for.
        check: Whether the environment must be the same, not only its shapes.
    """
    source = episodes.metadata.get("source", "the dataset")
    found, expected = episodes.actions.shape[1], task.action_spec.size
    others = [told for told in _recorded_in(episodes.metadata) if not _same(told, task)]
    if others and check:
        raise ValueError(
            f"{source} was recorded in {others[0]!r}, but it is to be trained for {task.name!r} "
            f"({task.simulator or 'no simulator named'}); choose the task that it was recorded in, "
            "or train on it all the same with task.check=false"
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


def _recorded_in(facts: Mapping[str, Any]) -> Iterator[str]:
    """Names that a dataset has for the environment that it was recorded in."""
    for name in ("task", "simulator"):
        if isinstance(told := facts.get(name), str) and told:
            yield told
    spec = facts.get("env_spec") or (facts.get("minari") or {}).get("env_spec")
    if isinstance(spec, str):
        try:
            spec = json.loads(spec)
        except json.JSONDecodeError:
            spec = None
    if isinstance(spec, Mapping) and isinstance(spec.get("id"), str):
        yield spec["id"]
    env_args = facts.get("env_args")
    if isinstance(env_args, Mapping) and env_args.get("env_name"):
        yield str(env_args["env_name"])


def _same(told: str, task: Task) -> bool:
    """Whether a dataset's name for an environment may be the task's; unknown names are not told."""
    if told in (task.name, task.simulator):
        return True
    if told in TASKS.names:
        return make_task(told).simulator == task.simulator != ""
    if not task.simulator:
        return True
    known = [make_task(name).simulator for name in TASKS.names]
    if not any(_is_world(told, simulator) for simulator in known):
        return True
    return _is_world(told, task.simulator)


def _is_world(told: str, simulator: str) -> bool:
    """Whether an environment's id names the world of a simulator, in whatever version."""
    if told == simulator:
        return True
    base = _base(told)
    for word in simulator.replace(",", " ").split():
        rest = base.removeprefix(_base(word)) if base.startswith(_base(word)) else None
        if rest is not None and (not rest or rest.startswith(VARIANTS)):
            return True
    return False


def _base(environment: str) -> str:
    """An environment's name without namespace and version."""
    name = environment.rpartition("/")[2]
    base, _, version = name.rpartition("-v")
    return base if version.isdigit() else name
