"""Whether the actions of a file of robosuite mean what a task makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from ...envs.robosuite_arm import CONTROLLER, FRAME
from ...envs.robosuite_tasks import ROBOSUITE_TASKS, takes_poses
from ...envs.task import Task
from .episodes import Episodes

ABSOLUTE_COLUMN = "actions_abs"  # as robomimic calls absolute actions beside ``actions``
_ROBOT = "Panda"
_MAX_DISTANCE = 0.25  # [m], from the hand to where an action asks it to be, in the middle of all
_MAX_ROWS = 10_000
_ALL_THE_SAME = "or use it all the same with task.check=false"


def control_problems(facts: Mapping[str, Any], task: Task) -> Iterator[str]:
    """What ``env_args`` of a file say of robot, controller and actions, and the task has otherwise.

    Args:
        facts: Metadata of the episodes; what is not from robosuite, or says nothing, passes.
        task: What the actions are to be used in.
    """
    kwargs = _mapping(_mapping(facts.get("env_args")).get("env_kwargs"))
    if task not in ROBOSUITE_TASKS or not kwargs:
        return
    robots = kwargs.get("robots", _ROBOT)
    if robots not in (_ROBOT, [_ROBOT]):
        yield f"env_args.env_kwargs.robots is {robots!r}, but task {task.name!r} has {_ROBOT!r}"
    place, arm = arm_settings(kwargs)
    for name, expected in CONTROLLER.items():
        # Up to 1.4, and in files made with that, the damping ratio is called damping.
        key = "damping" if name == "damping_ratio" and name not in arm else name
        if key in arm and not _same(arm[key], expected):
            yield f"{place}.{key} is {arm[key]!r}, but task {task.name!r} runs with {expected!r}"
    yield from _action_problems(facts, task, place, arm)


def check_control(episodes: Episodes, task: Task) -> None:
    """Refuse actions that would do something else in `task` than where they were recorded.

    Raises:
        ValueError: For the first of `control_problems`, or if absolute actions are not where the
            hand is observed; names key, expected and found.
    """
    source = episodes.metadata.get("source", "the dataset")
    for problem in control_problems(episodes.metadata, task):
        raise ValueError(f"{source}: {problem}; {_ALL_THE_SAME}")
    hand = episodes.observations.get("observation.robot0_eef_pos")
    if takes_poses(task) and hand is not None and episodes.actions.shape[1] > 2:
        away = episodes.actions[:_MAX_ROWS, :3] - hand[:_MAX_ROWS]
        distance = float(np.median(np.linalg.norm(away, axis=1)))
        if not distance < _MAX_DISTANCE:
            raise ValueError(
                f"{source}: task {task.name!r} takes hand poses in the world, but the actions' "
                f"positions are {distance:.2f} m away from 'observation.robot0_eef_pos': deltas, "
                f"or poses in another frame? {_ALL_THE_SAME.capitalize()}"
            )


def arm_settings(kwargs: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Settings of the arm's controller in robosuite's ``env_kwargs``, and their place there.

    Since robosuite 1.5 they are those of a body part, before they were the only ones.
    """
    place = "env_args.env_kwargs.controller_configs"
    configs = kwargs.get("controller_configs")
    if isinstance(configs, Sequence) and configs and not isinstance(configs, str):
        configs = configs[0]
    configs = _mapping(configs)
    if "body_parts" in configs:
        place, configs = f"{place}.body_parts.right", _mapping(configs["body_parts"])
        return place, {"input_ref_frame": "base", **_mapping(configs.get("right"))}
    return place, configs


def recorded_absolute(arm: Mapping[str, Any]) -> bool | None:
    """Whether the controller took hand poses rather than deltas; None if nothing says it."""
    if "input_type" in arm:
        return arm["input_type"] == "absolute"
    # What 1.4 called it is still in robomimic's files for 1.5.
    return None if "control_delta" not in arm else not arm["control_delta"]


def _action_problems(
    facts: Mapping[str, Any], task: Task, place: str, arm: Mapping[str, Any]
) -> Iterator[str]:
    absolute = True if facts.get("absolute_actions") else recorded_absolute(arm)
    if absolute is None:
        return
    if absolute and not takes_poses(task):
        yield (
            f"the actions are absolute hand poses, but task {task.name!r} takes deltas; choose "
            f"{_sibling(task)!r}, or other actions with task.keys.action"
        )
    elif not absolute and takes_poses(task):
        yield (
            f"the actions are deltas, but task {task.name!r} takes absolute hand poses; choose "
            f"{_sibling(task)!r}, or task.keys.action={ABSOLUTE_COLUMN}, which robomimic's "
            "robosuite_add_absolute_actions.py adds to a file"
        )
    elif absolute and (frame := arm.get("input_ref_frame", FRAME)) != FRAME:
        yield (
            f"{place}.input_ref_frame is {frame!r}, but absolute actions of task {task.name!r} "
            f"are in the frame {FRAME!r}"
        )


def _sibling(task: Task) -> str:
    """The task that takes the other kind of actions."""
    name, image, _ = task.name.partition("-image")
    name = name.removesuffix("-abs") if takes_poses(task) else f"{name}-abs"
    return f"{name}{image}"


def _same(found: Any, expected: Any) -> bool:
    """Whether two settings agree; a number may stand for a list of equal ones."""
    if isinstance(expected, str) or isinstance(found, str) or found is None:
        return bool(found == expected)
    try:
        return bool(np.allclose(found, expected))
    except (TypeError, ValueError):  # not numbers, or not as many
        return False


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
