"""Replay of demonstrations: do the recorded actions still do in the simulator what they did?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ...envs.gymnasium_env import GymnasiumEnvironment
from ...envs.pusht import PushT
from ...envs.recording import HasInfos
from ...envs.registry import make_task
from ..data.episodes import Episodes
from ..data.formats.registry import find_dataset, format_of, read_episodes
from .replay_robosuite import replay_robosuite
from .replayed import Replay, ReplayedEpisode, check_actions, deviation

SIMULATORS = ("gymnasium", "gymnasium-robotics", "metaworld", "robosuite", "mujoco", "pybullet")

Frame = Mapping[str, np.ndarray]


def replay_dataset(source: str | Path, task_name: str = "", num_episodes: int = 0) -> Replay:
    """Replay a dataset's demonstrations, each from its recorded first state.

    Args:
        source: Dataset, as `read_episodes` takes it, or a file of robosuite demonstrations.
        task_name: Task to replay in; by default what the dataset says.
        num_episodes: How many demonstrations, from the first; 0 for all.

    Raises:
        ValueError: If the task or the first states are not known, or the actions do not fit.
    """
    if num_episodes < 0:
        raise ValueError(f"num_episodes must be 0 (all) or more, got {num_episodes}")
    path = find_dataset(source)
    if path.suffix == ".hdf5" and (found := replay_robosuite(path, task_name, num_episodes)):
        return found
    if format_of(path).name == "zarr":
        keys = {"action": "action", "observation.state": "state"}
        episodes = read_episodes(path, keys)
        return _replay_episodes(episodes, task_name or "pusht", num_episodes)
    episodes = read_episodes(path, everything=True)
    return _replay_episodes(episodes, task_name or episodes.metadata.get("task", ""), num_episodes)


def _dataset_notes(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What speaks against a replay, from what `hotloop data generate` wrote about a dataset."""
    notes = [
        f"recorded with {package} {version}, but {installed or 'none'} is installed"
        for package, version in facts.get("versions", {}).items()
        if package in SIMULATORS and version and version != (installed := _installed(package))
    ]
    for part in facts.get("experts", ()):
        if part.get("action_noise") and str(part.get("actions", "")).startswith("intended"):
            notes.append(
                "the actions are what the expert intended, but noise was added to them when they "
                "were executed: they cannot lead to the same states"
            )
            break
    return tuple(notes)


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _replay_episodes(episodes: Episodes, task_name: str, num_episodes: int) -> Replay:
    if not task_name:
        raise ValueError("the dataset does not say its task: give it with --task, e.g. hopper")
    task = make_task(task_name)
    check_actions(episodes.actions, task, str(episodes.metadata.get("source", "dataset")))
    spans = episodes.episode_slices[: num_episodes or None]
    with closing(task.make()) as env:
        start = _starter(env, task_name, episodes)
        replayed = tuple(_replay_span(env, episodes, i, s, start) for i, s in enumerate(spans))
    return Replay(task_name, replayed, _dataset_notes(episodes.metadata))


def _starter(env: Any, task_name: str, episodes: Episodes) -> Callable[[int, int], Frame]:
    """What resets `env` to the first state of an episode, given its index and its first row."""
    if isinstance(env, PushT):
        return lambda index, row: env.set_state(episodes.observations["observation.state"][row])
    seed = episodes.metadata.get("seed")
    if seed is not None:
        return lambda index, row: env.reset(int(seed) + index)
    qpos, qvel = episodes.infos.get("qpos"), episodes.infos.get("qvel")
    if qpos is None or qvel is None or not isinstance(env, GymnasiumEnvironment):
        raise ValueError(
            "the dataset has neither infos/qpos and infos/qvel nor the seed of its episodes: "
            f"nothing says where task {task_name!r} began"
        )

    def restore(index: int, row: int) -> Frame:
        frame = env.reset(index)
        env.set_joint_state(qpos[row], qvel[row])
        return frame

    return restore


def _replay_span(
    env: Any,
    episodes: Episodes,
    index: int,
    span: slice,
    start: Callable[[int, int], Frame],
) -> ReplayedEpisode:
    frame, rewards = start(index, span.start), []
    recorded = _recorded_states(env, episodes, frame)
    reached: dict[str, list[np.ndarray]] = {key: [] for key in recorded}
    for action in episodes.actions[span]:
        state = _states(env, frame)
        for key, values in reached.items():
            values.append(state[key])
        frame, reward, _ = env.step(action)
        rewards.append(reward)
    errors = [
        deviation(np.array(values), np.asarray(recorded[key][span]))
        for key, values in reached.items()
    ]
    difference = None
    if episodes.rewards is not None:
        difference = float(sum(rewards) - np.sum(episodes.rewards[span], dtype=np.float64))
    # Unlike max(), numpy's keeps a NaN, which must not pass for a small error.
    error = float(np.max(errors))
    return ReplayedEpisode(str(index), len(rewards), env.success, error, difference)


def _recorded_states(env: Any, episodes: Episodes, frame: Frame) -> Mapping[str, np.ndarray]:
    """What the dataset tells of the simulator's state, or else of what was observed."""
    infos = {key: array for key, array in episodes.infos.items() if key in _infos(env)}
    if infos:
        return infos
    seen = {key: array for key, array in episodes.observations.items() if key in frame}
    if not seen:
        raise ValueError(
            f"the dataset has {', '.join(episodes.observations)}, the task {', '.join(frame)}: "
            "nothing to compare"
        )
    return seen


def _states(env: Any, frame: Frame) -> Mapping[str, np.ndarray]:
    return {**frame, **_infos(env)}


def _infos(env: Any) -> Mapping[str, np.ndarray]:
    """The simulator's state, of Push-T under the name that its demonstrations have for it."""
    if isinstance(env, PushT):
        return {"observation.state": env.state}
    return env.infos if isinstance(env, HasInfos) else {}
