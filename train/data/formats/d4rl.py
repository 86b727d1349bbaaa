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
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..columns import StoredArray, require_path
from ..episodes import Episodes, blocks
from ..source import Cuts, DatasetFile, ReadOptions, Selection

D4RL_SUFFIXES = (".hdf5", ".h5")
_FLAGS = ("terminals", "timeouts")


class D4rlFile(DatasetFile):
    """An open D4RL file; see the module's text."""

    layout = "d4rl"
    takes = ("max_episode_steps", "shift_rewards")

    def __init__(self, path: Path, options: ReadOptions, resources: ExitStack) -> None:
        import h5py

        super().__init__(path, options, resources)
        # h5py's types leave open whether an item is a group, a dataset or a link.
        self._file: Any = resources.enter_context(h5py.File(path, "r"))
        file = self._file
        self._datasets = {name: item for name, item in file.items() if _is_dataset(item)}
        if isinstance(infos := file.get("infos"), h5py.Group):
            columns = {f"infos/{name}": item for name, item in infos.items()}
            self._datasets |= {name: item for name, item in columns.items() if _is_dataset(item)}
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
        if name == "rewards" and self.options.shift_rewards:
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
        limit = self.options.max_episode_steps
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
        declared = self._json("keys", self._datasets["observations"].attrs.get("keys"))
        if declared is None:
            return {"observation.state": (num_features,)}
        shapes = {key: tuple(shape) for key, shape in declared.items()}
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
            keys[key] = Selection("observations", start, stop, shape)
            start = stop
        infos = [name for name in self.names if name.startswith("infos/")]
        return keys | {f"info.{name.removeprefix('infos/')}": Selection(name) for name in infos}

    def metadata(self) -> dict[str, Any]:
        """What hotloop wrote, and the single values in D4RL's ``metadata`` group."""
        found = self._json("metadata", self._file.attrs.get("metadata")) or {}
        group = self._file.get("metadata")
        single: dict[str, Any] = {}
        for name, item in () if group is None else group.items():
            if _is_dataset(item) and item.shape == ():
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

    def _read_flags(self, name: str) -> np.ndarray:
        flags = self.column(name).read().reshape(-1)
        if not ((flags == 0) | (flags == 1)).all():
            raise ValueError(
                f"{self.path}: column {name!r} must be 0 or 1, found {np.unique(flags)[:8]}"
            )
        return flags.astype(bool)

    def _json(self, name: str, text: Any) -> dict[str, Any] | None:
        if text is None:
            return None
        try:
            value = json.loads(text)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.path}: attribute {name!r} is not JSON: {text!r}") from error
        if not isinstance(value, dict):
            raise ValueError(
                f"{self.path}: attribute {name!r} must be a JSON object, found {value}"
            )
        return value


def read_policy_array(path: Path | str, name: str) -> np.ndarray:
    """Read ``metadata/NAME``, e.g. a layer of the policy that made the data.

    Raises:
        ValueError: If the file has no such array; names those that it has.
    """
    import h5py

    with h5py.File(require_path(path), "r") as file:
        found: dict[str, Any] = {}

        def note(name: str, item: Any) -> None:
            if _is_dataset(item):
                found[name] = item

        if isinstance(group := file.get("metadata"), h5py.Group):
            group.visititems(note)
        if name not in found:
            raise ValueError(
                f"{path}: no metadata {name!r}; the file has {', '.join(found) or 'none'}"
            )
        return np.asarray(found[name][()])


def _is_dataset(item: object) -> bool:
    import h5py

    return isinstance(item, h5py.Dataset)


def _split_at_limit(ends: np.ndarray, num_steps: int, limit: int) -> np.ndarray:
    """Add a cut after every `limit` steps since the last one."""
    borders = [0, *ends.tolist(), num_steps]
    cuts = {cut for start, stop in pairwise(borders) for cut in range(start + limit, stop, limit)}
    whole = (num_steps - int(ends[-1] if len(ends) else 0)) % limit == 0
    return np.array(sorted({*ends.tolist(), *cuts, *([num_steps] if whole else [])}), np.int64)


def write_d4rl_file(path: Path, episodes: Episodes, advance: Callable[[int], object]) -> None:
    """Write a new D4RL file, block by block; `advance` is told the number of steps.

    Raises:
        ValueError: If observations are images, which the flat layout has no place for.
    """
    import h5py

    shapes = {key: array.shape[1:] for key, array in episodes.observations.items()}
    images = [key for key, array in episodes.observations.items() if array.dtype == np.uint8]
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
