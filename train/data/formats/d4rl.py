"""D4RL's flat HDF5 layout, read and written.

``observations``, ``actions``, ``rewards``, ``terminals`` and ``timeouts`` have one row per step;
an episode ends where ``terminals`` or ``timeouts`` is set (Fu et al. 2020). ``next_observations``,
``infos/*`` and ``metadata/*`` are optional. Traps that are not repaired silently:

- The first kitchen and Adroit releases have no ``timeouts``; `ReadOptions.max_episode_steps` cuts
  them at the task's time limit (kitchen 280, pen 100, other Adroit tasks 200).
- maze2d has one endless trajectory, cut where a waypoint was reached. Its rewards belong to the
  state before the action; `ReadOptions.shift_rewards` moves them to the action that earned them.
  Its goal is in ``infos/goal``: ``keys={"observation.goal": "infos/goal", ...}``.

Files that hotloop writes add two things: ``observations`` is the concatenation of several
observation keys, whose order and shapes are its JSON attribute ``keys``, and the file's JSON
attribute ``metadata`` says where the data comes from. Any D4RL reader can ignore both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..columns import StoredArray
from ..episodes import Episodes, blocks
from ..following import differs
from ..selection import Selection
from ..source import Cuts, DatasetFile
from ..tasks import as_tasks
from .d4rl_ids import D4RL_FILES, d4rl_path
from .format import Advance, Format, Option
from .hdf5 import HDF5_SUFFIXES, check_size, is_dataset, json_attribute, open_hdf5, top_names


class D4rlFile(DatasetFile):
    """An open D4RL file; see the module's text."""

    layout = "d4rl"
    task_column = "infos/task_index"
    required = ("observations",)
    bookkeeping = ("terminals", "timeouts", "next_observations")

    def __init__(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> None:
        import h5py

        super().__init__(path, options, resources)
        self._file = open_hdf5(path, resources)
        file = self._file
        self._datasets = {name: item for name, item in file.items() if is_dataset(item)}
        if isinstance(infos := file.get("infos"), h5py.Group):
            columns = {f"infos/{name}": item for name, item in infos.items()}
            self._datasets |= {name: item for name, item in columns.items() if is_dataset(item)}
        if not {"observations", "actions"} & set(self._datasets):
            raise ValueError(
                "not D4RL's flat layout; expected observations, actions, terminals and timeouts "
                f"at the top, found {', '.join(file) or 'nothing'}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Datasets at the top and in ``infos``."""
        return tuple(self._datasets)

    def open_array(self, name: str) -> StoredArray:
        """Open a dataset, or rewards that are moved to the action that earned them."""
        array = self._datasets[name]
        check_size(array)
        if name == "rewards" and self.options["shift_rewards"]:
            if self._read_flags("terminals").any():
                raise ValueError(
                    "shift_rewards is for maze2d, whose rows follow each other in time; this file "
                    "has terminal states"
                )
            rewards = array[:]
            return np.append(rewards[1:], rewards[-1:])
        return array

    def cuts(self) -> Cuts:
        """Cut after ``terminals`` and ``timeouts``; rows after the last cut are unfinished."""
        limit = self.options["max_episode_steps"]
        missing = "timeouts" not in self.names
        if not limit and missing and "terminals" in self.names:
            raise ValueError(
                f"{self.path}: no column 'timeouts'; without it, episodes that ran out of time "
                "would be joined to the next one: take a later release of the dataset, or give "
                "the time limit of its environment as max_episode_steps (kitchen 280, pen 100, "
                "door, hammer and relocate 200)"
            )
        terminals = self._read_flags("terminals")
        timeouts = np.zeros_like(terminals) if missing else self._read_flags("timeouts")
        if len(terminals) != len(timeouts):
            raise ValueError(
                f"{self.path}: 'terminals' has {len(terminals)} steps, but 'timeouts' has "
                f"{len(timeouts)}"
            )
        ends = np.flatnonzero(terminals | timeouts) + 1
        if limit:
            ends = _split_at_limit(ends, len(terminals), limit)
        num_unfinished = int(len(terminals) > (ends[-1] if len(ends) else 0))
        if num_unfinished:
            ends = np.append(ends, len(terminals))
        return Cuts(ends.astype(np.int64), terminals[ends - 1], num_unfinished)

    def observation_shapes(self) -> dict[str, tuple[int, ...]]:
        """Observation keys in the order in which ``observations`` holds them, and their shapes."""
        num_features = self.column("observations").num_features
        declared = json_attribute(self._datasets["observations"], "keys")
        if declared is None:
            return {"observation.state": (num_features,)}
        shapes = {key: tuple(int(size) for size in shape) for key, shape in declared.items()}
        expected = sum(int(np.prod(shape)) for shape in shapes.values())
        if expected != num_features:
            raise ValueError(
                f"{self.path}: 'observations' has {num_features} features, but its attribute "
                f"'keys' declares {expected}: {declared}"
            )
        return shapes

    def default_keys(self) -> dict[str, Selection]:
        """``observations`` as ``observation.state``, or under the keys that the file declares."""
        keys = {"action": Selection("actions")}
        if "rewards" in self.names:
            keys["reward"] = Selection("rewards")
        start = 0
        for key, shape in self.observation_shapes().items():
            stop = start + int(np.prod(shape))
            whole = stop - start == self.column("observations").num_features
            features = None if whole else tuple(range(start, stop))
            keys[key] = Selection("observations", features, shape)
            start = stop
        told = {*self.bookkeeping, "observations", "actions", "rewards"}
        infos = [name for name in self.names if name not in told and self._has_steps(name)]
        return keys | {f"info.{name.removeprefix('infos/')}": Selection(name) for name in infos}

    def metadata(self) -> dict[str, Any]:
        """What hotloop wrote, and the single values in D4RL's ``metadata`` group."""
        found = json_attribute(self._file, "metadata") or {}
        group = self._file.get("metadata")
        single: dict[str, Any] = {}
        for name, item in () if group is None else group.items():
            if is_dataset(item) and item.shape == ():
                value = item[()]
                single[name] = value.decode() if isinstance(value, bytes) else value.item()
        return found | ({"d4rl": single} if single else {})

    def final_rows(self, name: str, cuts: Cuts) -> np.ndarray | None:
        """Rows of ``next_observations``."""
        if name != "observations" or "next_observations" not in self.names:
            return None
        column = self.column("next_observations")
        if column.num_steps != self.column("observations").num_steps:
            raise ValueError(
                f"{self.path}: 'next_observations' has {column.num_steps} steps, but "
                f"'observations' has {self.column('observations').num_steps}"
            )
        rows = [column.read(slice(end - 1, end)) for end in cuts.episode_ends]
        return np.concatenate(rows)

    def inspection_facts(self) -> dict[str, Any]:
        """The observation keys and their shapes."""
        shapes = self.observation_shapes()
        return {"observation_keys": {key: list(shape) for key, shape in shapes.items()}}

    def losses(self) -> Iterator[str]:
        """Arrays of the metadata, and ``next_observations`` that differ."""
        arrays = (name.split("/") for name in top_names(self._file, "metadata"))
        yield from dict.fromkeys("/".join(parts[:2]) for parts in arrays if len(parts) > 1)
        if text := self._difference():
            yield text

    def _difference(self) -> str:
        """Say if the row after a step holds another observation than ``next_observations``."""
        if not {"observations", "next_observations"} <= set(self.names):
            return ""
        columns = self.column("observations"), self.column("next_observations")
        if not differs(*columns, self.cuts().episode_ends):
            return ""
        return "next_observations, which differ from the observations one step later"

    def _has_steps(self, name: str) -> bool:
        """Whether a dataset has as many rows as the actions."""
        shape, actions = self._datasets[name].shape, self._datasets.get("actions")
        return bool(shape) and actions is not None and shape[:1] == actions.shape[:1]

    def _read_flags(self, name: str) -> np.ndarray:
        flags = self.column(name).read().reshape(-1)
        if not ((flags == 0) | (flags == 1)).all():
            raise ValueError(
                f"{self.path}: column {name!r} must be 0 or 1, found {np.unique(flags)[:8]}"
            )
        return flags.astype(bool)


def _split_at_limit(ends: np.ndarray, num_steps: int, limit: int) -> np.ndarray:
    """Add a cut after every `limit` steps since the last one."""
    borders = [0, *ends.tolist(), num_steps]
    cuts = {cut for start, stop in pairwise(borders) for cut in range(start + limit, stop, limit)}
    whole = (num_steps - int(ends[-1] if len(ends) else 0)) % limit == 0
    return np.array(sorted({*ends.tolist(), *cuts, *([num_steps] if whole else [])}), np.int64)


class D4rlFormat(Format):
    """D4RL's flat HDF5 layout; see the module's text."""

    name = "d4rl"
    description = "D4RL's .hdf5, or a D4RL id"
    suffixes = HDF5_SUFFIXES
    options = (
        Option("max_episode_steps", 0, "files without timeouts: time limit"),
        Option("shift_rewards", False, "maze2d: rewards one step earlier, see the README"),
    )
    keeps = frozenset({"terminated", "final_observations"})
    is_writable = True

    def recognise(self, path: Path) -> bool:
        """By suffix; every HDF5 file that is not robomimic's, so that one is told what is amiss."""
        return path.name.endswith(self.suffixes) and path.is_file() and not top_names(path, "data")

    def open(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> D4rlFile:
        """Open a file."""
        return D4rlFile(path, options, resources)

    def locate(self, name: str) -> Path | None:
        """The file of an id such as ``hopper-medium-v2``."""
        return d4rl_path(name) if name in D4RL_FILES else None

    def ids(self) -> list[str]:
        """All ids of D4RL."""
        return list(D4RL_FILES)

    def write(self, partial: Path, episodes: Episodes, path: Path, advance: Advance) -> None:
        """Write block by block; instructions become tasks, pictures have no place."""
        del path
        _write(partial, as_tasks(episodes), advance)


FORMAT = D4rlFormat()


def _write(path: Path, episodes: Episodes, advance: Advance) -> None:
    import h5py

    shapes = {key: array.shape[1:] for key, array in episodes.observations.items()}
    images = [key for key, array in episodes.observations.items() if array.ndim == 4]
    if images:
        raise ValueError(
            f"D4RL's flat layout holds no images, but {', '.join(images)} are; choose columns with "
            "keys, or another format"
        )
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "D4RL-style flat HDF5, written by hotloop"
        file.attrs["metadata"] = json.dumps(dict(episodes.metadata))
        for name, array in _whole_columns(episodes).items():
            # The checksum turns a flipped bit into an error instead of a wrong number.
            file.create_dataset(name, data=array, compression="gzip", fletcher32=True)
        names = ["observations"]
        names += ["next_observations"] if episodes.final_observations is not None else []
        shape = (episodes.num_steps, sum(int(np.prod(shape)) for shape in shapes.values()))
        columns = [
            file.create_dataset(name, shape, np.float32, compression="gzip", fletcher32=True)
            for name in names
        ]
        columns[0].attrs["keys"] = json.dumps(shapes)
        for rows in blocks(episodes.num_steps, 4 * shape[1]):
            for column, following in zip(columns, (False, True), strict=False):
                column[rows] = _features(episodes, rows, following=following)
            advance(rows.stop - rows.start)


def _features(episodes: Episodes, rows: slice, *, following: bool) -> np.ndarray:
    """Observations of some steps, or those that follow them, side by side."""
    ends = episodes.episode_ends
    inside = np.flatnonzero((ends > rows.start) & (ends <= rows.stop))
    columns = []
    for key, array in episodes.observations.items():
        block = np.array(array[rows])
        if following:
            later = array[rows.start + 1 : rows.stop + 1]
            block[: len(later)] = later
            final: Mapping[str, np.ndarray] = episodes.final_observations or {}
            block[ends[inside] - 1 - rows.start] = final[key][inside]
        columns.append(block.reshape(len(block), -1))
    return np.concatenate(columns, axis=1)


def _whole_columns(episodes: Episodes) -> dict[str, np.ndarray]:
    terminals, timeouts = np.zeros((2, episodes.num_steps), bool)
    terminals[episodes.episode_ends - 1] = episodes.terminated
    timeouts[episodes.episode_ends - 1] = ~episodes.terminated
    columns = {"actions": episodes.actions}
    if episodes.rewards is not None:
        columns["rewards"] = episodes.rewards
    infos = {f"infos/{name}": array for name, array in episodes.infos.items()}
    return columns | {"terminals": terminals, "timeouts": timeouts} | infos
