"""Demonstrations from the scripted controller, recorded into a dataset file."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np

from .d4rl import check_destination, write_d4rl
from .episodes import Episodes

_PROVENANCE_PACKAGES = ("hotloop", "gymnasium-robotics", "mujoco", "numpy")


def generate_demonstrations(
    path: Path | str,
    task_name: str,
    num_episodes: int,
    *,
    seed: int = 0,
    action_noise: float = 0.0,
    overwrite: bool = False,
    progress: bool = False,
) -> Episodes:
    """Record episodes of the waypoint controller into the HDF5 file `path` and return them.

    The reward is that of the sparse task: 1 on the step that reaches the goal, else 0.

    Args:
        path: File to create, see `write_d4rl`; nothing is written before all episodes are there.
        task_name: A PointMaze task.
        num_episodes: How many episodes, at least 1.
        seed: First environment seed; episode i starts from ``seed + i``.
        action_noise: Standard deviation of the noise on each executed action, in its unit.
        overwrite: Replace an existing file.
        progress: Show a progress bar on stderr.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is false.
        ValueError: If an argument is out of range, or the task has no scripted controller.
    """
    from tqdm import tqdm

    from ...envs.waypoint_controller import scripted_episodes

    path = check_destination(path, overwrite=overwrite)
    if num_episodes < 1 or seed < 0:
        raise ValueError(
            f"num_episodes must be at least 1 and seed at least 0, got {num_episodes} and {seed}"
        )
    episodes = scripted_episodes(task_name, num_episodes, seed, action_noise)
    bar = tqdm(episodes, total=num_episodes, unit="episode", disable=not progress)
    recorded = list(bar)
    success = np.array([episode.success for episode in recorded])
    ends = np.cumsum([len(episode.actions) for episode in recorded])
    rewards = np.zeros(ends[-1], np.float32)
    rewards[ends - 1] = success
    dataset = Episodes(
        observations={
            key: np.concatenate([episode.observations[key] for episode in recorded])
            for key in recorded[0].observations
        },
        actions=np.concatenate([episode.actions for episode in recorded]),
        episode_ends=ends,
        rewards=rewards,
        metadata={
            "generator": "hotloop waypoint controller",
            "task": task_name,
            "num_episodes": num_episodes,
            "num_success": int(success.sum()),
            "seed": seed,
            "action_noise": action_noise,
            "actions": "as the controller asked for, without the noise on what was executed",
            "versions": {name: importlib.metadata.version(name) for name in _PROVENANCE_PACKAGES},
        },
    )
    write_d4rl(path, dataset, terminated=success, overwrite=overwrite)
    return dataset
