"""robomimic's HDF5 layout, low-dimensional and with images, read and written.

``data/demo_N`` holds one episode: ``actions`` (in [-1, 1]), ``rewards``, ``dones``, ``obs/KEY`` and
optionally ``next_obs/KEY``, ``states`` and ``actions_abs``; images are uint8, height x width x
channels. ``data`` says in the JSON attribute ``env_args`` which environment made it, and
``mask/NAME`` lists subsets of the demonstrations (Mandlekar et al. 2021). An observation is called
``observation.KEY`` here, and an episode terminated if its last ``dones`` is set.

Files that hotloop writes say in the JSON attribute ``metadata`` of ``data`` where they come from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ..columns import ConcatenatedArray, StoredArray
from ..episodes import Episodes
from ..source import Cuts, DatasetFile, ReadOptions, Selection

# robomimic's numbers for the kind of environment: robosuite is 1, Gym is 2.
_GYM_TYPE = 2
_DEMO = re.compile(r"demo_(\d+)")
_NO_INFO = ("actions", "rewards", "dones")


class RobomimicFile(DatasetFile):
    """An open robomimic file; see the module's text."""

    layout = "robomimic"
    takes = ("subset", "absolute_actions", "accept_robosuite")

    def __init__(self, path: Path, options: ReadOptions, resources: ExitStack) -> None:
        import h5py

        super().__init__(path, options, resources)
        # h5py's types leave open whether an item is a group, a dataset or a link.
        self._file: Any = resources.enter_context(h5py.File(path, "r"))
        data: Any = self._file.get("data")
        self._demos: dict[str, Any] = {}
        if isinstance(data, h5py.Group):
            self._demos = {name: data[name] for name in self._chosen_demos(data)}
        if not self._demos:
            raise ValueError(
                "not robomimic's layout; expected demonstrations data/demo_0, data/demo_1, ..., "
                f"found {', '.join(data or self._file) or 'nothing'}"
            )
        first = next(iter(self._demos.values()))
        if not isinstance(first.get("obs"), h5py.Group):
            raise ValueError(
                f"data/{next(iter(self._demos))} holds {', '.join(first)}, but no observations: "
                "these are simulator states of robosuite demonstrations; `hotloop data replay "
                f"{path}` replays them in the simulator, and robomimic's dataset_states_to_obs.py "
                "makes observations from them"
            )
        self._names = tuple(_dataset_names(first))

    @property
    def names(self) -> tuple[str, ...]:
        """What the first demonstration holds, e.g. ``actions`` and ``obs/object``."""
        return self._names

    def open_array(self, name: str) -> StoredArray:
        """Open the arrays of all demonstrations as one."""
        parts = {}
        for demo, group in self._demos.items():
            part = group.get(name)
            if part is None:
                raise ValueError(f"data/{demo} has no {name!r}, unlike the first demonstration")
            num_samples = len(group["actions"]) if "actions" in group else len(part)
            if len(part) != num_samples:
                raise ValueError(
                    f"data/{demo}/{name} has {len(part)} steps, but data/{demo}/actions has "
                    f"{num_samples}"
                )
            parts[f"data/{demo}/{name}"] = part
        return ConcatenatedArray(parts)

    def cuts(self) -> Cuts:
        """One episode per demonstration."""
        if "actions" not in self.names:
            raise ValueError(
                f"{self.path}: no column 'actions'; the file has {', '.join(self.names)}"
            )
        lengths = {name: len(group["actions"]) for name, group in self._demos.items()}
        if empty := [name for name, length in lengths.items() if not length]:
            raise ValueError(f"{self.path}: data/{empty[0]} has no steps")
        ends = np.cumsum(list(lengths.values()))
        terminated = np.zeros(len(ends), bool)
        if "dones" in self.names:
            terminated = self._last_rows("dones").reshape(-1) > 0
        return Cuts(ends.astype(np.int64), terminated)

    def default_keys(self) -> dict[str, Selection]:
        """Every observation; ``actions_abs`` as actions if the options ask for them."""
        actions = "actions_abs" if self.options.absolute_actions else "actions"
        keys = {"action": Selection(actions)}
        if "rewards" in self.names:
            keys["reward"] = Selection("rewards")
        for name in self.names:
            if name.startswith("obs/"):
                shape = self.column(name).shape
                # robomimic itself has vectors only; scalars become vectors of one.
                keys[f"observation.{name.removeprefix('obs/')}"] = Selection(
                    name, shape=shape or (1,)
                )
        infos = [
            name for name in self.names if "/" not in name and name not in (*_NO_INFO, actions)
        ]
        return keys | {f"info.{name}": Selection(name) for name in infos}

    def metadata(self) -> dict[str, Any]:
        """``env_args``, and what hotloop wrote."""
        attributes = self._file["data"].attrs
        found: dict[str, Any] = {}
        for name in ("metadata", "env_args"):
            if name in attributes:
                try:
                    value = json.loads(attributes[name])
                except (ValueError, TypeError) as error:
                    raise ValueError(
                        f"{self.path}: attribute {name!r} of 'data' is not JSON: {error}"
                    ) from error
                found |= value if name == "metadata" else {"env_args": value}
        if self.options.accept_robosuite:
            found["accept_robosuite"] = self.options.accept_robosuite
        return found

    def final_rows(self, name: str, cuts: Cuts) -> np.ndarray | None:
        """Last rows of ``next_obs``."""
        del cuts
        following = name.replace("obs/", "next_obs/", 1)
        return self._last_rows(following) if following in self.names else None

    def problems(self) -> Iterator[str]:
        """Subsets that name unknown demonstrations, wrong counts, another robosuite version."""
        data = self._file["data"]
        total = data.attrs.get("total")
        num_steps = sum(len(group["actions"]) for group in data.values() if "actions" in group)
        if total is not None and int(total) != num_steps:
            yield f"attribute 'total' of 'data' says {total} steps, but there are {num_steps}"
        for name, group in data.items():
            stated = group.attrs.get("num_samples")
            if stated is None:
                yield f"data/{name} has no attribute 'num_samples', which robomimic needs"
            elif "actions" in group and int(stated) != len(group["actions"]):
                yield f"data/{name} says {stated} samples, but has {len(group['actions'])} actions"
        for subset in self._file.get("mask", {}):
            unknown = sorted(set(_subset(self._file, subset)) - set(data))
            if unknown:
                yield f"mask/{subset} names demonstrations that are not there: {unknown[:5]}"
        try:
            check_robosuite(self.metadata())
        except ValueError as error:
            yield str(error)

    def _chosen_demos(self, data: Any) -> list[str]:
        subset = self.options.subset
        names: list[str] = [name for name in data if _DEMO.fullmatch(name)]
        if subset:
            known = list(self._file.get("mask", {}))
            if subset not in known:
                raise ValueError(
                    f"no subset 'mask/{subset}'; the file has {', '.join(known) or 'none'}"
                )
            chosen = _subset(self._file, subset)
            absent = sorted(set(chosen) - set(names))
            if absent:
                raise ValueError(f"'mask/{subset}' names {absent[0]!r}, which is not in the file")
            names = chosen
        return sorted(names, key=lambda name: int(name.removeprefix("demo_")))

    def _last_rows(self, name: str) -> np.ndarray:
        self.column(name)
        return np.stack([group[name][-1] for group in self._demos.values()])


def check_robosuite(facts: Mapping[str, Any]) -> None:
    """Refuse to train on a file of another robosuite release than the installed one.

    Controllers and observations changed between minor releases; policies trained across that border
    succeed never, without any error.

    Args:
        facts: Metadata of the episodes; what is not from robosuite passes.

    Raises:
        ValueError: If the versions differ in major or minor number and `accept_robosuite` does not
            name the file's version.
    """
    env_args = facts.get("env_args")
    if not isinstance(env_args, Mapping) or not (version := env_args.get("env_version")):
        return
    # Only robosuite has the number 1; the key is absent in old files.
    if env_args.get("type", 1) != 1 or facts.get("accept_robosuite") == version:
        return
    try:
        installed = metadata.version("robosuite")
    except metadata.PackageNotFoundError:
        return
    if str(version).split(".")[:2] != installed.split(".")[:2]:
        raise ValueError(
            f"{facts.get('source', 'the dataset')} was recorded with robosuite {version}, but "
            f"{installed} is installed, in which the same actions do something else; install "
            f"robosuite=={version}, or if `hotloop data replay` succeeds on the file, accept it "
            f"with accept_robosuite={version}"
        )


def _subset(file: Any, name: str) -> list[str]:
    entries = file["mask"][name][:]
    return [entry.decode() if isinstance(entry, bytes) else str(entry) for entry in entries]


def _dataset_names(group: Any) -> Iterator[str]:
    """Names of the datasets of a demonstration, ``obs/KEY`` included."""
    for name, item in group.items():
        if hasattr(item, "dtype"):
            yield name
        else:
            yield from (f"{name}/{key}" for key, inner in item.items() if hasattr(inner, "dtype"))


def write_robomimic_file(path: Path, episodes: Episodes, advance: Callable[[int], object]) -> None:
    """Write a new robomimic file; observations are stored without their prefix.

    ``next_obs`` is written where the observation after the last action is known. Without rewards,
    the file has none: robomimic asks for them only where an algorithm learns from them.
    """
    import h5py

    facts = dict(episodes.metadata)
    name = facts.get("env_name") or facts.get("task") or facts.get("source") or "unknown"
    env_args = facts.pop("env_args", None) or {
        "env_name": name,
        "type": _GYM_TYPE,
        "env_kwargs": {},
    }
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = episodes.num_steps
        data.attrs["env_args"] = json.dumps(env_args, indent=4)
        data.attrs["metadata"] = json.dumps(facts)
        for index, rows in enumerate(episodes.episode_slices):
            group = data.create_group(f"demo_{index}")
            group.attrs["num_samples"] = rows.stop - rows.start
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
