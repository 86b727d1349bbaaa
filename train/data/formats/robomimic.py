"""robomimic's HDF5 layout, low-dimensional and with images, read and written.

``data/demo_N`` holds one episode: ``actions`` (in [-1, 1]), ``rewards``, ``dones``, ``obs/KEY`` and
optionally ``next_obs/KEY``, ``states`` and ``actions_abs``; images are uint8, height x width x
channels, or PNG or JPEG files. ``data`` says in the JSON attribute ``env_args`` which environment
made it, and ``mask/NAME`` lists subsets of the demonstrations (Mandlekar et al. 2021), which become
indices of episodes in ``metadata["subsets"]``; texts that are attributes of each demonstration,
such as ``model_file``, become `Episodes.texts`. An observation is called ``observation.KEY`` here,
and an episode terminated if its last ``dones`` is set; ``dones`` before the end are ``info.dones``.

Files that hotloop writes say in the JSON attribute ``metadata`` of ``data`` where they come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ..columns import Column, ConcatenatedArray, StoredArray
from ..encoded_pictures import EncodedPictures, is_encoded
from ..episodes import Episodes
from ..following import differs
from ..robosuite_version import check_robosuite
from ..selection import Selection
from ..source import Cuts, DatasetFile, rate_problems
from .format import Advance, Format, Option
from .hdf5 import (
    HDF5_SUFFIXES,
    check_size,
    dataset_names,
    json_attribute,
    open_hdf5,
    top_names,
)
from .robomimic_write import write_robomimic_file

_DEMO = re.compile(r"demo_(\d+)")
# What the names of columns that robomimic's scripts add to a file end in, and the scripts.
_ADDED_LATER = {"abs": "robosuite_add_absolute_actions.py", "image": "dataset_states_to_obs.py"}
_NO_INFO = ("actions", "rewards", "dones")


class RobomimicFile(DatasetFile):
    """An open robomimic file; see the module's text."""

    layout = "robomimic"
    task_column = "task_index"

    def __init__(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> None:
        import h5py

        super().__init__(path, options, resources)
        self._file = open_hdf5(path, resources)
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
        self._names = tuple(dataset_names(first))
        # What `losses` tells of ``next_obs`` is all that there is to tell.
        following = [name for name in self._names if name.startswith("next_obs/")]
        self.bookkeeping = ("dones", *following)

    @property
    def names(self) -> tuple[str, ...]:
        """What the first demonstration holds, e.g. ``actions`` and ``obs/object``."""
        return self._names

    def column(self, name: str) -> Column:
        """Open a column; of one that robomimic's scripts would add, say which does."""
        if name not in self.names and (adds := _ADDED_LATER.get(name.rpartition("_")[2])):
            raise ValueError(f"{self.path}: no column {name!r}, which robomimic's {adds} would add")
        return super().column(name)

    def open_array(self, name: str) -> StoredArray:
        """Open the arrays of all demonstrations as one."""
        parts = {}
        for demo, group in self._demos.items():
            part = group.get(name)
            if part is None:
                raise ValueError(f"data/{demo} has no {name!r}, unlike the first demonstration")
            check_size(part)
            num_samples = len(group["actions"]) if "actions" in group else len(part)
            if len(part) != num_samples:
                raise ValueError(
                    f"data/{demo}/{name} has {len(part)} steps, but data/{demo}/actions has "
                    f"{num_samples}"
                )
            parts[f"data/{demo}/{name}"] = _opened(part)
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
        actions = "actions_abs" if self.options["absolute_actions"] else "actions"
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
        told = {*_NO_INFO, actions}
        infos = [name for name in self.names if name not in told and "obs/" not in name]
        infos += ["dones"] if self._is_done_early() else []
        return keys | {f"info.{name}": Selection(name) for name in infos}

    def texts(self) -> dict[str, list[str]]:
        """Attributes of the demonstrations that are texts, where all of them have them."""
        names = [
            name
            for name, value in next(iter(self._demos.values())).attrs.items()
            if isinstance(value, str)
        ]
        found = {name: [demo.attrs.get(name) for demo in self._demos.values()] for name in names}
        return {
            name: texts
            for name, texts in found.items()
            if all(isinstance(text, str) for text in texts)
        }

    def losses(self) -> Iterator[str]:
        """``next_obs`` without or unlike their ``obs``, and attributes that are no texts."""
        for name in self.names:
            if name.startswith("next_obs/"):
                short = name.removeprefix("next_")
                if short not in self.names:
                    yield name
                elif differs(self.column(short), self.column(name), self.cuts().episode_ends):
                    yield f"{name}, which differs from {short} one step later"
        whole = {name for name in self.names if name.startswith("obs/")}
        covered = {f"obs/{name.removeprefix('next_obs/')}" for name in self.names}
        if (covered & whole) and (absent := sorted(whole - covered)):
            yield f"next_obs of the last steps, as {absent[0]} has none"
        kept = {"num_samples", *self.texts()}
        attributes = {name for demo in self._demos.values() for name in demo.attrs} - kept
        yield from (f"attribute {name} of each demonstration" for name in sorted(attributes))
        others = set(self._file["data"].attrs) - {"metadata", "env_args", "total"}
        yield from (f"attribute {name} of data" for name in sorted(others))

    def metadata(self) -> dict[str, Any]:
        """``env_args``, and what hotloop wrote."""
        data = self._file["data"]
        found = dict(json_attribute(data, "metadata") or {})
        if (env_args := json_attribute(data, "env_args")) is not None:
            found["env_args"] = env_args
        if self.options["accept_robosuite"]:
            found["accept_robosuite"] = self.options["accept_robosuite"]
        if subsets := self._subsets():
            found["subsets"] = subsets
        return found

    def final_rows(self, name: str, cuts: Cuts) -> np.ndarray | None:
        """Last rows of ``next_obs``."""
        del cuts
        following = name.replace("obs/", "next_obs/", 1)
        return self._last_rows(following) if following in self.names else None

    def problems(self) -> Iterator[str]:
        """Subsets that name unknown demonstrations, wrong counts, another robosuite version."""
        data = self._file["data"]
        demos = {name: group for name, group in data.items() if hasattr(group, "keys")}
        total = data.attrs.get("total")
        num_steps = sum(len(group["actions"]) for group in demos.values() if "actions" in group)
        if total is not None and total != num_steps:
            yield f"attribute 'total' of 'data' says {total} steps, but there are {num_steps}"
        for name, group in demos.items():
            stated = group.attrs.get("num_samples")
            if stated is None:
                yield f"data/{name} has no attribute 'num_samples', which robomimic needs"
            elif "actions" in group and stated != len(group["actions"]):
                yield f"data/{name} says {stated} samples, but has {len(group['actions'])} actions"
        yield from self._differences()
        yield from rate_problems(self.metadata())
        for subset in self._file.get("mask", {}):
            unknown = sorted(set(_subset(self._file, subset)) - set(data))
            if unknown:
                yield f"mask/{subset} names demonstrations that are not there: {unknown[:5]}"
        try:
            check_robosuite(self.metadata())
        except ValueError as error:
            yield str(error)

    def _differences(self) -> Iterator[str]:
        """Columns that other demonstrations have and the first has not."""
        for demo, group in self._demos.items():
            if others := sorted(set(dataset_names(group)) - set(self.names)):
                yield f"data/{demo} has {', '.join(others[:3])}, unlike the first demonstration"

    def _subsets(self) -> dict[str, list[int]]:
        """Episodes of each subset, as far as they are read."""
        order = {name: index for index, name in enumerate(self._demos)}
        found = {}
        for subset in self._file.get("mask", {}):
            members = [order[name] for name in _subset(self._file, subset) if name in order]
            if members and not self.options["subset"]:
                found[subset] = members
        return found

    def _is_done_early(self) -> bool:
        if "dones" not in self.names:
            return False
        return any("dones" in g and np.asarray(g["dones"][:-1]).any() for g in self._demos.values())

    def _chosen_demos(self, data: Any) -> list[str]:
        subset = self.options["subset"]
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
        return np.concatenate([_opened(group[name])[-1:] for group in self._demos.values()])


def _opened(dataset: Any) -> Any:
    """A dataset of a demonstration; encoded pictures decode as they are read."""
    return EncodedPictures(dataset) if is_encoded(dataset) else dataset


def _subset(file: Any, name: str) -> list[str]:
    entries = file["mask"][name][:]
    return [entry.decode() if isinstance(entry, bytes) else str(entry) for entry in entries]


class RobomimicFormat(Format):
    """robomimic's HDF5 layout; see the module's text."""

    name = "robomimic"
    description = "robomimic's .hdf5"
    suffixes = HDF5_SUFFIXES
    options = (
        Option("subset", "", "demonstrations of mask/SUBSET only, e.g. train"),
        Option("absolute_actions", False, "actions_abs as actions"),
        Option("accept_robosuite", "", "train on files of this robosuite, though another is here"),
    )
    keeps = frozenset({"terminated", "final_observations", "texts", "pictures"})
    is_writable = True

    def recognise(self, path: Path) -> bool:
        """A file with a group ``data``."""
        return (
            path.name.endswith(self.suffixes) and path.is_file() and bool(top_names(path, "data"))
        )

    def open(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> RobomimicFile:
        """Open a file."""
        return RobomimicFile(path, options, resources)

    def write(self, partial: Path, episodes: Episodes, path: Path, advance: Advance) -> None:
        """Write a new file; observations are stored without their prefix."""
        del path
        write_robomimic_file(partial, episodes, advance)


FORMAT = RobomimicFormat()
