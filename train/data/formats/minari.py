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
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..columns import DECODE_ERRORS, StoredArray
from ..episodes import BLOCK_BYTES, Episodes
from ..source import Cuts, DatasetFile, ReadOptions, Selection

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

    def __init__(self, path: Path, options: ReadOptions, resources: ExitStack) -> None:
        super().__init__(path, options, resources)
        minari = import_minari("reading")
        with _quiet():
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
        facts = json.loads((self.path / "data" / "metadata.json").read_text())
        ours = json.loads(facts.pop("hotloop", "{}"))
        dropped = ("observation_space", "action_space", "total_episodes", "total_steps")
        kept = {name: value for name, value in facts.items() if name not in dropped}
        return {**ours, "minari": kept}

    def final_rows(self, name: str, cuts: Cuts) -> np.ndarray | None:
        """The observations after the last actions, which Minari always has."""
        del cuts
        return self._final.get(name)

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
                        f"{self.path}: episode {index} cannot be read: {error}"
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


def import_minari(purpose: str) -> Any:
    """Import minari; raise ImportError naming the extra."""
    try:
        import minari
    except ImportError as error:
        raise ImportError(
            f"{purpose} Minari datasets needs: pip install 'hotloop[minari]'"
        ) from error
    return minari


@contextmanager
def _quiet() -> Iterator[None]:
    """Minari warns about every optional field that a dataset does not have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def write_minari_folder(
    path: Path, episodes: Episodes, dataset_id: str, advance: Callable[[int], object]
) -> None:
    """Write a new Minari dataset into the folder `path`; `advance` is told the number of steps.

    One observation key ``observation.state`` becomes a Box space, more keys a Dict. Where the
    observation after the last action is unknown, the last known one is repeated and the metadata
    says so; unknown rewards, which Minari has no word for, become zeros and the metadata says so.
    Images are stored as they are, without JPEG.
    """
    minari = import_minari("writing")
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.dataset.minari_storage import MinariStorage

    parse_dataset_id(dataset_id)  # Raises ValueError for an id that Minari would not read.
    names = {key: key.removeprefix("observation.") for key in episodes.observations}
    single = list(names.values()) == ["state"]

    def box(array: np.ndarray) -> Any:
        low, high = (0, 255) if array.dtype == np.uint8 else (-np.inf, np.inf)
        return spaces.Box(low, high, array.shape[1:], array.dtype.type)

    boxes = {names[key]: box(array) for key, array in episodes.observations.items()}
    path.joinpath("data").mkdir(parents=True)
    with _quiet():
        storage = MinariStorage.new(
            path / "data",
            observation_space=boxes["state"] if single else spaces.Dict(boxes),
            action_space=box(episodes.actions),
            jpeg_encoding=False,
        )
        facts = dict(episodes.metadata)
        if episodes.final_observations is None:
            facts["final_observations"] = "repeated from the last step, the source has none"
        if episodes.rewards is None:
            facts["rewards_unknown"] = True
        storage.update_metadata(
            {
                "dataset_id": dataset_id,
                "minari_version": minari.__version__,
                "hotloop": json.dumps(facts),
            }
        )
        # Minari keeps its file open for as long as this goes on.
        storage.update_episodes(_buffers(EpisodeBuffer, episodes, names, single, advance))


def _buffers(
    make: Callable[..., Any],
    episodes: Episodes,
    names: Mapping[str, str],
    single: bool,
    advance: Callable[[int], object],
) -> Iterator[Any]:
    """Yield Minari's buffer of each episode, made when the one before is written."""
    for index, rows in enumerate(episodes.episode_slices):
        num_steps = rows.stop - rows.start
        observations = {names[key]: _with_final(episodes, key, index, rows) for key in names}
        last = np.arange(num_steps) == num_steps - 1
        unknown = np.zeros(num_steps, np.float32)
        yield make(
            observations=observations["state"] if single else observations,
            actions=np.asarray(episodes.actions[rows]),
            rewards=unknown if episodes.rewards is None else np.asarray(episodes.rewards[rows]),
            terminations=last & episodes.terminated[index],
            truncations=last & ~episodes.terminated[index],
            infos={name: np.asarray(a[rows]) for name, a in episodes.infos.items()} or None,
        )
        advance(num_steps)


def _with_final(episodes: Episodes, key: str, index: int, rows: slice) -> np.ndarray:
    array = np.asarray(episodes.observations[key][rows])
    final = episodes.final_observations
    return np.concatenate([array, array[-1:] if final is None else final[key][index : index + 1]])


def is_minari_id(name: str) -> bool:
    """Whether a name looks like an id, ``namespace/name-v0``, rather than a path."""
    return re.fullmatch(r"[\w/-]*[\w]-v\d+", name) is not None
