"""Minari datasets, read and written through the ``minari`` package.

An episode of T actions has T + 1 observations; the last is in `Episodes.final_observations`.
A Dict observation space gives one key per entry, ``observation.ENTRY``; any other space is
``observation.state``. An episode terminated if its last ``terminations`` is set: PointMaze data,
for example, only has truncations. Datasets are found by path, or by id (``D4RL/door/human-v2``) in
``$MINARI_DATASETS_PATH``, by default ``~/.minari/datasets``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ....decoding.plumbing.extras import require
from ....decoding.plumbing.files import read_json_object
from ..columns import DECODE_ERRORS, StoredArray, describe
from ..episodes import BLOCK_BYTES, Episodes
from ..selection import Selection
from ..source import Cuts, DatasetFile
from .format import Advance, Format
from .minari_write import REPEATED, quiet, write_minari_folder

_KEPT_BYTES = 4 * BLOCK_BYTES
_STEPS = ("rewards", "terminations", "truncations")


def minari_folder() -> Path:
    """``$MINARI_DATASETS_PATH``, by default ``~/.minari/datasets``."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def local_minari_ids() -> list[str]:
    """Ids of the datasets that are there."""
    root = minari_folder()
    found = root.glob("**/data/metadata.json")
    return sorted(path.parent.parent.relative_to(root).as_posix() for path in found)


class MinariFile(DatasetFile):
    """An open Minari dataset; see the module's text."""

    layout = "minari"
    task_column = "infos/task_index"
    bookkeeping = ("terminations", "truncations")

    def __init__(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> None:
        super().__init__(path, options, resources)
        minari = require("minari", "minari")
        self.facts = read_json_object(path / "data" / "metadata.json")
        with quiet():
            dataset = minari.MinariDataset(path / "data")
        self._storage = dataset.storage
        facts = list(self._storage.get_episode_metadata(range(self._storage.total_episodes)))
        if not facts:
            raise ValueError("the dataset has no episodes")
        self._ends = np.cumsum([int(fact["total_steps"]) for fact in facts])
        self._loaded: dict[int, dict[str, np.ndarray]] = {}
        self._loaded_bytes = 0
        self._first = next(self._episodes(0, 1))
        self._final: dict[str, np.ndarray] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What the first episode holds, e.g. ``observations/desired_goal`` and ``actions``."""
        return tuple(self._first)

    def open_array(self, name: str) -> StoredArray:
        """All episodes as one array, without the observation after the last action."""
        return _MinariArray(self, name)

    def cuts(self) -> Cuts:
        """Episode lengths from the metadata; terminations from the last step of each.

        Minari reads whole episodes only, so what was seen last is kept on the way.
        """
        names = [name for name in self.names if name.split("/")[0] == "observations"]
        last: dict[str, list[np.ndarray]] = {name: [] for name in names}
        terminated = []
        for arrays in self._episodes(0, len(self._ends)):
            terminated.append(bool(arrays["terminations"][-1]))
            for name in names:
                last[name].append(arrays[name][-1])
        self._final = {name: np.stack(rows) for name, rows in last.items()}
        return Cuts(self._ends.astype(np.int64), np.array(terminated))

    def default_keys(self) -> dict[str, Selection]:
        """Every entry of the observation as a key of its own."""
        keys = {"action": Selection("actions")}
        if not self.metadata().get("rewards_unknown"):
            keys["reward"] = Selection("rewards")
        for name, array in self._first.items():
            kind, _, entry = name.partition("/")
            if kind == "observations":
                # A discrete observation is one number; policies read vectors.
                shape = array.shape[1:] or (1,)
                keys[f"observation.{entry.replace('/', '.') or 'state'}"] = Selection(
                    name, shape=shape
                )
            elif kind == "infos" and array.dtype.kind in "biuf":
                keys[f"info.{entry}"] = Selection(name)
        return keys

    def metadata(self) -> dict[str, Any]:
        """Everything in ``metadata.json`` but the spaces, which the arrays show."""
        facts = dict(self.facts)
        ours = json.loads(facts.pop("hotloop", None) or "{}")
        # What is repeated there is not known, see `final_rows`.
        ours.pop(REPEATED, None)
        dropped = ("observation_space", "action_space", "total_episodes", "total_steps")
        kept = {name: value for name, value in facts.items() if name not in dropped}
        return {**ours, "minari": kept}

    def final_rows(self, name: str, cuts: Cuts) -> np.ndarray | None:
        """The observations after the last actions, unless hotloop has invented them."""
        del cuts
        ours = json.loads(self.facts.get("hotloop") or "{}")
        return None if REPEATED in ours else self._final.get(name)

    def problems(self) -> Iterator[str]:
        """Counts in the metadata that the episodes disagree with, flags before the end."""
        for name, count in (("total_steps", self.num_rows), ("total_episodes", len(self._ends))):
            if self.facts.get(name) != count:
                yield f"data/metadata.json says {name} {self.facts.get(name)}, found {count}"
        lengths = np.diff(self._ends, prepend=0)
        for index, arrays in enumerate(self._episodes(0, len(self._ends))):
            for name, array in arrays.items():
                extra = name.split("/")[0] in ("observations", "infos")
                if len(array) not in (lengths[index], lengths[index] + extra):
                    yield (
                        f"episode_{index}/{name} has {len(array)} rows, but {lengths[index]} steps"
                    )

    def losses(self) -> Iterator[str]:
        """Flags before the end of an episode, and infos that are no numbers."""
        early, texts = set(), set()
        for arrays in self._episodes(0, len(self._ends)):
            early |= {name for name in self.bookkeeping if arrays[name][:-1].any()}
            texts |= {name for name, array in arrays.items() if array.dtype.kind not in "biuf"}
        yield from (f"{name} before the end of an episode" for name in sorted(early))
        yield from sorted(texts)

    @property
    def num_rows(self) -> int:
        """Steps of all episodes together."""
        return int(self._ends[-1])

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of a column; the episodes they are in stay loaded for the other columns."""
        begins = np.concatenate([[0], self._ends[:-1]])
        first = int(np.searchsorted(self._ends, start, side="right"))
        last = int(np.searchsorted(self._ends, stop - 1, side="right"))
        pieces = []
        for index, arrays in enumerate(self._episodes(first, last + 1), first):
            length = int(self._ends[index] - begins[index])
            if len(arrays[name]) < length:
                raise ValueError(
                    f"episode_{index}/{name} has {len(arrays[name])} rows, but {length} steps"
                )
            rows = slice(max(0, start - begins[index]), min(length, stop - begins[index]))
            pieces.append(arrays[name][rows])
        return np.concatenate(pieces)

    def _episodes(self, first: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield the arrays of episodes; those of the last few are read only once."""
        kept = {index: self._loaded[index] for index in range(first, stop) if index in self._loaded}
        missing = [index for index in range(first, stop) if index not in kept]
        fresh = iter(self._storage.get_episodes(missing))
        for index in range(first, stop):
            if index not in kept:
                try:
                    kept[index] = _arrays_of(next(fresh))
                except (*DECODE_ERRORS, KeyError) as error:
                    raise ValueError(
                        f"{self.path}: episode {index} cannot be read: {describe(error)}"
                    ) from error
                self._keep(index, kept[index])
            yield kept.pop(index)

    def _keep(self, index: int, arrays: dict[str, np.ndarray]) -> None:
        """Keep an episode in memory and forget the oldest ones beyond the limit."""
        self._loaded[index] = arrays
        self._loaded_bytes += _num_bytes(arrays)
        while len(self._loaded) > 1 and self._loaded_bytes > _KEPT_BYTES:
            oldest = next(iter(self._loaded))
            self._loaded_bytes -= _num_bytes(self._loaded.pop(oldest))


def _arrays_of(episode: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """All arrays of an episode by their path."""
    arrays = dict(_leaves("observations", episode["observations"]))
    arrays |= dict(_leaves("actions", episode["actions"]))
    arrays |= {name: np.asarray(episode[name]) for name in _STEPS}
    return arrays | dict(_leaves("infos", episode["infos"] or {}))


def _num_bytes(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays.values())


class _MinariArray:
    """One column of a Minari dataset."""

    def __init__(self, file: MinariFile, name: str) -> None:
        self._file, self._name = file, name
        sample = file.read(name, 0, 1)
        self.shape = (file.num_rows, *sample.shape[1:])
        self.dtype = sample.dtype

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        return self._file.read(self._name, start, stop)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays in nested dictionaries and tuples, under paths like HDF5's."""
    entries = value.items() if isinstance(value, dict) else ()
    if isinstance(value, tuple):
        entries = ((f"_index_{index}", entry) for index, entry in enumerate(value))
    elif not isinstance(value, dict):
        yield name, np.asarray(value)
    for key, entry in entries:
        yield from _leaves(f"{name}/{key}", entry)


def is_minari_id(name: str) -> bool:
    """Whether a name looks like an id, ``namespace/name-v0``, rather than a path."""
    return re.fullmatch(r"[\w/-]*[\w]-v\d+", name) is not None


class MinariFormat(Format):
    """Folders of Minari's; see the module's text."""

    name = "minari"
    description = "folder of a Minari dataset, with data/metadata.json, or a Minari id"
    keeps = frozenset({"terminated", "final_observations", "pictures"})
    parts = re.compile(r"data/(metadata\.json|main_data\.hdf5|\d+/.*|space.*)|README\.md")
    is_writable = True

    def recognise(self, path: Path) -> bool:
        """By ``data/metadata.json``."""
        return (path / "data" / "metadata.json").is_file()

    def open(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> MinariFile:
        """Open a folder."""
        return MinariFile(path, options, resources)

    def locate(self, name: str) -> Path | None:
        """The folder of an id such as ``D4RL/door/human-v2``, if it is there."""
        path = minari_folder() / name
        return path if is_minari_id(name) and (path / "data").is_dir() else None

    def ids(self) -> list[str]:
        """Ids of the datasets that are there."""
        return local_minari_ids()

    def target(self, path: Path) -> Path:
        """A path, or an id's place in `minari_folder`."""
        if not path.is_absolute() and not str(path).startswith("."):
            path = minari_folder() / path
        if not re.search(r"-v\d+$", path.name):
            raise ValueError(
                f"{path}: the name of a Minari dataset ends in its version, e.g. '-v0'"
            )
        return path

    def write(self, partial: Path, episodes: Episodes, path: Path, advance: Advance) -> None:
        """Write a new folder; its id is where `path` is in `minari_folder`, else its name."""
        root, path = minari_folder().resolve(), path.resolve()
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        write_minari_folder(partial, episodes, name, advance)


FORMAT = MinariFormat()
