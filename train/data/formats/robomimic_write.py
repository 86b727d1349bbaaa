"""Writing of robomimic's HDF5 layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..episodes import Episodes
from .format import Advance

# robomimic's numbers for the kind of environment: robosuite is 1, Gym is 2.
_GYM_TYPE = 2


def write_robomimic_file(partial: Path, episodes: Episodes, advance: Advance) -> None:
    """Write a new file.

    ``next_obs`` is written where the observation after the last action is known. Without rewards
    the file has none: robomimic asks for them only where an algorithm learns from them.
    """
    import h5py

    facts = dict(episodes.metadata)
    name = facts.get("env_name") or facts.get("task") or facts.get("source") or "unknown"
    stated = facts.pop("env_args", None)
    env_args = stated or {"env_name": name, "type": _GYM_TYPE, "env_kwargs": {}}
    subsets = facts.pop("subsets", None) or {}
    with h5py.File(partial, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = episodes.num_steps
        data.attrs["env_args"] = json.dumps(env_args, indent=4)
        data.attrs["metadata"] = json.dumps(facts)
        for subset, members in subsets.items():
            file[f"mask/{subset}"] = np.array([f"demo_{index}".encode() for index in members])
        for index, rows in enumerate(episodes.episode_slices):
            group = data.create_group(f"demo_{index}")
            group.attrs["num_samples"] = rows.stop - rows.start
            for attribute, texts in episodes.texts.items():
                group.attrs[attribute] = texts[index]
            for column, array in _demonstration(episodes, index, rows).items():
                group.create_dataset(column, data=array, compression="gzip")
            advance(rows.stop - rows.start)


def _demonstration(episodes: Episodes, index: int, rows: slice) -> dict[str, np.ndarray]:
    dones = np.zeros(rows.stop - rows.start, np.int64)
    dones[-1] = episodes.terminated[index]
    columns = {"actions": episodes.actions[rows], "dones": dones}
    if episodes.rewards is not None:
        columns["rewards"] = episodes.rewards[rows]
    for key, array in episodes.observations.items():
        name = key.removeprefix("observation.")
        columns[f"obs/{name}"] = array[rows]
        if episodes.final_observations is not None:
            last = episodes.final_observations[key][index : index + 1]
            columns[f"next_obs/{name}"] = np.concatenate([array[rows][1:], last])
    return columns | {name: array[rows] for name, array in episodes.infos.items()}
