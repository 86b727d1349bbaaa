"""Replay of demonstrations: do the recorded actions still do in the simulator what they did?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.registry import make_task
from .data.diffusion_policy import ReplayFile
from .data.episodes import Episodes
from .data.formats import find_dataset, kind_of, read_episodes

STATE_TOLERANCE = 1e-3  # largest deviation of a state, relative to 1 or its own size
ROBOSUITE_TASKS = {"Lift": "lift", "PickPlaceCan": "can", "NutAssemblySquare": "square"}


@dataclass(frozen=True)
class ReplayedEpisode:
    """How one demonstration went again.

    Attributes:
        name: Which demonstration.
        num_steps: Control steps that were replayed.
        success: Whether the task was solved in the replay.
        state_error: Largest deviation from a recorded state, relative to 1 or the state's size.
        return_error: Replayed minus recorded return; None where rewards are not recorded.
    """

    name: str
    num_steps: int
    success: bool
    state_error: float
    return_error: float | None = None

    @property
    def reproduced(self) -> bool:
        """Whether every state came out as recorded."""
        return self.state_error <= STATE_TOLERANCE


@dataclass(frozen=True)
class Replay:
    """All replayed demonstrations of a file.

    Attributes:
        task: Name of the task that they were replayed in.
        episodes: One entry per demonstration.
        notes: What the user should know, such as a version that differs.
        by_success: Whether a demonstration that solves its task counts as reproduced, although its
            states deviate: contacts of another robosuite version never agree to the last digit.
    """

    task: str
    episodes: tuple[ReplayedEpisode, ...]
    notes: tuple[str, ...] = ()
    by_success: bool = False

    @property
    def reproduced(self) -> bool:
        """Whether every demonstration was reproduced."""
        return all(one.reproduced or (self.by_success and one.success) for one in self.episodes)


def replay_dataset(source: str | Path, task_name: str = "", num_episodes: int = 0) -> Replay:
    """Replay a dataset's demonstrations, each from its recorded first state.

    Args:
        source: Dataset, as `read_episodes` takes it, or a file of robosuite demonstrations.
        task_name: Task to replay in; by default what the dataset says.
        num_episodes: How many demonstrations, from the first; 0 for all.

    Raises:
        ValueError: If the task or the first states are not known.
    """
    path = find_dataset(source)
    if path.suffix == ".hdf5" and (found := _replay_robosuite(path, task_name, num_episodes)):
        return found
    if kind_of(path) is ReplayFile:
        keys = {"action": "action", "observation.state": "state"}
        episodes = read_episodes(path, keys)
        return _replay_episodes(episodes, task_name or "pusht", num_episodes)
    episodes = read_episodes(path, everything=True)
    return _replay_episodes(episodes, task_name or episodes.metadata.get("task", ""), num_episodes)


def _replay_robosuite(path: Path, task_name: str, num_episodes: int) -> Replay | None:
    """Replay a file with robosuite's states, or return None if it has none."""
    import h5py

    with h5py.File(path, "r") as file:
        data: Any = file.get("data")
        first: Any = next(iter(data.values()), None) if isinstance(data, h5py.Group) else None
        if not isinstance(first, h5py.Group) or "states" not in first or "actions" not in first:
            return None
        env_args = json.loads(data.attrs.get("env_args", "{}"))
        env_name = env_args.get("env_name", data.attrs.get("env", ""))
        task_name = task_name or ROBOSUITE_TASKS.get(env_name, "")
        if not task_name:
            raise ValueError(
                f"{path}: recorded in robosuite's {env_name!r}, which no task here is; known are "
                f"{', '.join(ROBOSUITE_TASKS)}"
            )
        version = env_args.get("env_version", data.attrs.get("repository_version"))
        notes = _version_notes(version)
        names: list[str] = sorted(data, key=lambda name: int(str(name).rpartition("_")[2]))
        with closing(make_task(task_name).make()) as env:
            episodes = tuple(
                _replay_demo(env, name, data[name], same_model=not notes)
                for name in names[: num_episodes or None]
            )
    return Replay(task_name, episodes, notes, by_success=True)


def _replay_demo(env: Any, name: str, demo: Any, *, same_model: bool) -> ReplayedEpisode:
    states, model = demo["states"][:], str(demo.attrs.get("model_file", ""))
    # Some files name the model instead of holding it; another version's has other parts and names.
    usable = same_model and model.lstrip().startswith("<")
    env.set_state(states[0], model if usable else "")
    reached, success = [env.infos["states"]], False
    for action in demo["actions"][:]:
        env.step(np.clip(action, -1, 1))
        success = success or env.success
        reached.append(env.infos["states"])
    # The first number is the simulator's time, which no demonstration needs to share.
    error = _deviation(np.array(reached[: len(states)])[:, 1:], states[:, 1:])
    return ReplayedEpisode(name, len(reached) - 1, success, error)


def _version_notes(recorded: str | None) -> tuple[str, ...]:
    installed = metadata.version("robosuite")
    if recorded is None:
        return (f"the file does not say its robosuite version; installed is {installed}",)
    if recorded.split(".")[:2] == installed.split(".")[:2]:
        return ()
    return (
        f"recorded with robosuite {recorded}, but {installed} is installed: controllers and "
        f"contacts differ, and the model is the installed one, not the file's; "
        f"install robosuite=={recorded} if the replay fails",
    )


def _replay_episodes(episodes: Episodes, task_name: str, num_episodes: int) -> Replay:
    if not task_name:
        raise ValueError("the dataset does not say its task: give it with --task, e.g. hopper")
    task = make_task(task_name)
    if episodes.actions.shape[1] != task.action_spec.size:
        raise ValueError(
            f"task {task_name!r} takes {task.action_spec.size} action dimensions, the dataset has "
            f"{episodes.actions.shape[1]}: another task?"
        )
    with closing(task.make()) as env:
        start = _starter(env, task_name, episodes)
        ends = episodes.episode_ends[: num_episodes or None]
        starts = [0, *ends[:-1]]
        spans = [slice(int(a), int(b)) for a, b in zip(starts, ends, strict=True)]
        return Replay(task_name, tuple(_replay_spans(env, episodes, spans, start)))


def _starter(env: Any, task_name: str, episodes: Episodes) -> Callable[[int, int], Any]:
    """What resets `env` to the first state of an episode, given its index and its first row."""
    if task_name == "pusht":
        return lambda index, row: env.set_state(episodes.observations["observation.state"][row])
    infos, facts = episodes.infos, episodes.metadata
    qpos, qvel = infos.get("qpos"), infos.get("qvel")
    if qpos is not None and qvel is not None and hasattr(env, "simulator"):

        def restore(index: int, row: int) -> None:
            env.reset(index)
            env.simulator.set_state(np.float64(qpos[row]), np.float64(qvel[row]))

        return restore
    if "seed" not in facts:
        raise ValueError(
            "the dataset has neither infos/qpos and infos/qvel nor the seed of its episodes: "
            "nothing says where they began"
        )
    return lambda index, row: env.reset(int(facts["seed"]) + index)


def _replay_spans(
    env: Any, episodes: Episodes, spans: list[slice], start: Callable[[int, int], Any]
) -> Iterator[ReplayedEpisode]:
    positions = episodes.infos.get("qpos") if hasattr(env, "infos") else None
    for index, span in enumerate(spans):
        frame, reached, rewards = start(index, span.start), [], []
        for action in episodes.actions[span]:
            if positions is not None:
                reached.append(env.infos["qpos"])
            else:
                reached.append(_seen(env, frame))
            frame, reward, _ = env.step(action)
            rewards.append(reward)
        recorded = episodes.observations["observation.state"] if positions is None else positions
        error = _deviation(np.array(reached), np.asarray(recorded[span]))
        difference = None
        if episodes.rewards is not None:
            difference = float(sum(rewards) - np.sum(episodes.rewards[span]))
        yield ReplayedEpisode(str(index), len(reached), env.success, error, difference)


def _seen(env: Any, frame: Any) -> np.ndarray:
    """The state that the dataset records: of Push-T the simulator's, else the observed one."""
    return env.state if hasattr(env, "set_state") else frame["observation.state"]


def _deviation(reached: np.ndarray, recorded: np.ndarray) -> float:
    """Largest difference, relative to 1 or the recorded number; infinite if sizes disagree."""
    if reached.shape != recorded.shape:
        return float("inf")
    return float(np.max(np.abs(reached - recorded) / np.maximum(1.0, np.abs(recorded))))
