"""Replay of robosuite's own demonstrations and of robomimic's files, from the recorded states."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding import ActionSpec
from ...envs.registry import make_task
from ...envs.robosuite_arm import CONTROL_HZ
from ...envs.robosuite_tasks import takes_poses
from ..data.robosuite_control import (
    ABSOLUTE_COLUMN,
    arm_settings,
    control_problems,
    recorded_absolute,
)
from .replayed import Replay, ReplayedEpisode, check_actions, deviation

ROBOSUITE_TASKS = {"Lift": "lift", "PickPlaceCan": "can", "NutAssemblySquare": "square"}


def replay_robosuite(path: Path, task_name: str, num_episodes: int) -> Replay | None:
    """Replay a file with robosuite's states, or return None if it has none or tells its seeds.

    A task that takes absolute hand poses gets the file's ``actions_abs`` if there are any.

    Raises:
        ValueError: If the task is not known, or the actions or states do not fit it.
    """
    import h5py

    with h5py.File(path, "r") as file:
        # h5py's types leave open whether an item is a group, a dataset or a link.
        data: Any = file.get("data")
        first: Any = next(iter(data.values()), None) if isinstance(data, h5py.Group) else None
        if not isinstance(first, h5py.Group) or "states" not in first or "actions" not in first:
            return None
        if "seed" in json.loads(data.attrs.get("metadata", "{}")):
            return None  # hotloop's own: the seed gives the model too, which differs by episode
        env_args = json.loads(data.attrs.get("env_args", "{}"))
        names: list[str] = sorted(data, key=lambda name: int(str(name).rpartition("_")[2]))
        demos: dict[str, Any] = {name: data[name] for name in names[: num_episodes or None]}
        env_name = env_args.get("env_name", data.attrs.get("env", ""))
        task = make_task(task_name or _recorded_task(path, env_name, env_args))
        column = ABSOLUTE_COLUMN if takes_poses(task) and ABSOLUTE_COLUMN in first else "actions"
        facts = {"env_args": env_args, "absolute_actions": column == ABSOLUTE_COLUMN}
        for problem in control_problems(facts, task):
            raise ValueError(f"{path}: {problem}")
        for name, demo in demos.items():
            check_actions(demo[column][:], task, f"{path}: data/{name}")
        version = env_args.get("env_version", data.attrs.get("repository_version"))
        with closing(task.make()) as env:  # before anything else asks which robosuite there is
            notes = _robosuite_notes(version, env_args.get("env_kwargs", {}))
            replay = partial(_replay_demo, env, task.action_spec, column, _fits(version))
            episodes = tuple(replay(name, demo) for name, demo in demos.items())
    return Replay(task.name, episodes, notes, by_success=True)


def _recorded_task(path: Path, env_name: str, env_args: Mapping[str, Any]) -> str:
    """The task that a file was recorded in, as its controller took actions."""
    if env_name not in ROBOSUITE_TASKS:
        raise ValueError(
            f"{path}: recorded in robosuite's {env_name!r}, which no task here is; known are "
            f"{', '.join(ROBOSUITE_TASKS)}"
        )
    _, arm = arm_settings(env_args.get("env_kwargs", {}))
    return f"{ROBOSUITE_TASKS[env_name]}{'-abs' if recorded_absolute(arm) else ''}"


def _replay_demo(
    env: Any, spec: ActionSpec, column: str, same_model: bool, name: str, demo: Any
) -> ReplayedEpisode:
    states, model = demo["states"][:], str(demo.attrs.get("model_file", ""))
    # Some files name the model instead of holding it; another version's has other parts and names.
    usable = same_model and model.lstrip().startswith("<")
    env.set_state(states[0], model if usable else "")
    reached, success = [env.infos["states"]], False
    for action in demo[column][:]:
        env.step(np.clip(action, spec.low, spec.high))
        success = success or env.success
        reached.append(env.infos["states"])
    # The first number is the simulator's time, which no demonstration needs to share.
    error = deviation(np.array(reached[: len(states)])[:, 1:], states[:, 1:])
    return ReplayedEpisode(name, len(reached) - 1, success, error)


def _robosuite_notes(recorded: str | None, env_kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    installed, notes = metadata.version("robosuite"), []
    if recorded is None:
        notes.append(f"the file does not say its robosuite version; installed is {installed}")
    elif not _fits(recorded):
        notes.append(
            f"recorded with robosuite {recorded}, but {installed} is installed: controllers and "
            f"contacts differ, and the model is the installed one, not the file's; "
            f"install robosuite=={recorded} if the replay fails"
        )
    if (rate := env_kwargs.get("control_freq", CONTROL_HZ)) != CONTROL_HZ:
        notes.append(f"recorded at {rate} Hz, but the task runs at {CONTROL_HZ} Hz")
    return tuple(notes)


def _fits(recorded: str | None) -> bool:
    """Whether the installed robosuite has the models of a version: major and minor agree."""
    installed = metadata.version("robosuite")
    return recorded is not None and recorded.split(".")[:2] == installed.split(".")[:2]
