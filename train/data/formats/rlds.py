"""RLDS datasets (Open X-Embodiment): TFRecord shards of TensorFlow Datasets, read without it.

A folder holds ``features.json`` and shards ``NAME-SPLIT.tfrecord-00000-of-00001``. Each record is
an episode; feature ``steps/observation/state`` is that column of all its steps, flattened. Text
becomes columns of bytes (`decoding.instruction`), pictures are decoded when they are read.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....decoding.instruction import INSTRUCTION_BYTES, INSTRUCTION_KEY, encode_instruction
from ....decoding.plumbing.extras import require
from ....decoding.plumbing.files import read_json_object
from ..columns import StoredArray
from ..selection import Selection
from ..source import Cuts, DatasetFile
from ..tfrecord import Record, find_records, parse_example, read_record
from .format import Format, Option

_STEPS, _OBSERVATION = "steps/", "steps/observation/"
_BOOKKEEPING = ("is_first", "is_last", "is_terminal", "discount", "reward", "action")
_INSTRUCTION = "language_instruction"


@dataclass(frozen=True)
class _Feature:
    """A feature of the steps as ``features.json`` declares it."""

    kind: str  # "tensor", "image" or "text"
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class RldsFile(DatasetFile):
    """An open RLDS dataset; see the module's text."""

    layout = "rlds"
    action_column = "steps/action"
    bookkeeping = ("steps/is_first", "steps/is_last", "steps/is_terminal")

    def __init__(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> None:
        super().__init__(path, options, resources)
        declared = list(_declared("", read_json_object(path / "features.json")))
        self._declared_names = [name for name, _ in declared]
        self._features: dict[str, _Feature] = {name: f for name, f in declared if f is not None}
        subset = options["subset"]
        pattern = f"*-{subset or '*'}.tfrecord*"
        shards = sorted(path.glob(pattern))
        if not shards:
            raise ValueError(f"no shard {pattern}; the folder has {_splits(path)}")
        self._records = [record for shard in shards for record in find_records(shard)]
        if not self._records:
            raise ValueError("the shards hold no episode")
        self._last: tuple[int, Mapping[str, list[Any]]] = (-1, {})
        lengths, self._terminal = [], []
        for number in range(len(self._records)):
            episode = self.episode(number)
            lengths.append(len(episode[f"{_STEPS}is_first"]))
            self._terminal.append(bool(episode.get(f"{_STEPS}is_terminal", [False])[-1]))
        self._ends = np.cumsum(lengths)

    @property
    def names(self) -> tuple[str, ...]:
        """The declared features of the steps."""
        return tuple(self._features)

    def open_array(self, name: str) -> StoredArray:
        """One feature of all episodes, end to end."""
        return _RldsArray(self, name, self._features[name], self._ends)

    def cuts(self) -> Cuts:
        """One episode per record; terminated if its last step is terminal."""
        return Cuts(self._ends.astype(np.int64), np.array(self._terminal))

    def default_keys(self) -> dict[str, Selection]:
        """Observations with their pictures, the instruction, the action and the reward."""
        keys = {"action": Selection(self.action_column)}
        if f"{_STEPS}reward" in self._features:
            keys["reward"] = Selection(f"{_STEPS}reward")
        instruction = self._instruction()
        for name, feature in self._features.items():
            short = name.removeprefix(_OBSERVATION)
            if name == instruction:
                keys[INSTRUCTION_KEY] = Selection(name)
            elif name.startswith(_OBSERVATION) and feature.kind != "text":
                prefix = "images." if feature.kind == "image" else ""
                shape = None if feature.kind == "image" else feature.shape or (1,)
                keys[f"observation.{prefix}{short}"] = Selection(name, shape=shape)
            elif (short := name.removeprefix(_STEPS)) not in _BOOKKEEPING:
                keys[f"info.{short}"] = Selection(name)
        return keys

    def _instruction(self) -> str | None:
        """The text that says what to do: ``language_instruction``, or the only one of the steps."""
        texts = [name for name, feature in self._features.items() if feature.kind == "text"]
        named = [name for name in texts if name.endswith(_INSTRUCTION)]
        exact = f"{_STEPS}{_INSTRUCTION}"
        if exact in texts:
            return exact
        return named[0] if len(named) == 1 else (texts[0] if len(texts) == 1 else None)

    def notes(self) -> Iterator[str]:
        """Which text is the instruction, if there are several."""
        texts = [name for name, feature in self._features.items() if feature.kind == "text"]
        if len(texts) > 1:
            chosen = self._instruction() or "none of them"
            yield f"of the texts {', '.join(texts)}, the instruction is {chosen}"

    def absences(self) -> Iterator[str]:
        """Episodes that ``dataset_info.json`` counts and the shards do not hold."""
        counts = _declared_episodes(self.path)
        for split, count in counts.items():
            if self.options["subset"] in ("", split):
                shards = self.path.glob(f"*-{split}.tfrecord*")
                found = sum(1 for shard in shards for _ in find_records(shard))
                if found != count:
                    yield (
                        f"dataset_info.json counts {count} episodes of split {split!r}, {found} "
                        "are there"
                    )

    def losses(self) -> Iterator[str]:
        """Declared features that are no columns: of whole episodes, and nested texts."""
        return (name for name in self._declared_names if name not in self._features)

    def problems(self) -> Iterator[str]:
        """Flags out of place."""
        for number in range(len(self._records)):
            flags = self.episode(number)
            first = flags[f"{_STEPS}is_first"]
            last = flags.get(f"{_STEPS}is_last", [])
            if not first[0] or any(first[1:]):
                yield f"episode {number}: is_first must be set at the first step only"
            if any(last[:-1]):
                yield f"episode {number}: is_last is set before the last step"

    def metadata(self) -> dict[str, Any]:
        """Name and version of the dataset."""
        info = self.path / "dataset_info.json"
        stored = read_json_object(info) if info.exists() else {}
        return {key: stored[key] for key in ("name", "version") if key in stored}

    def episode(self, number: int) -> Mapping[str, list[Any]]:
        """Features of one episode; the last one that was asked for is kept."""
        if self._last[0] != number:
            record = self._records[number]
            self._last = (number, self._checked(record, parse_example(read_record(record))))
        return self._last[1]

    def _checked(self, record: Record, episode: Mapping[str, list[Any]]) -> Mapping[str, list[Any]]:
        """Raise ValueError if a declared feature is absent or of another length."""
        where = f"{record.path}: episode at byte {record.offset}"
        num_steps = len(episode.get(f"{_STEPS}is_first", []))
        if num_steps == 0:
            raise ValueError(f"{where} has no steps/is_first, which every RLDS step has")
        for name, feature in self._features.items():
            per_step = int(np.prod(feature.shape)) if feature.kind == "tensor" else 1
            if len(episode.get(name, [])) != num_steps * per_step:
                raise ValueError(
                    f"{where}: {name!r} has {len(episode.get(name, []))} values, its {num_steps} "
                    f"steps need {num_steps * per_step}"
                )
        return episode


class _RldsArray:
    """One feature of all episodes, decoded episode by episode."""

    def __init__(self, file: RldsFile, name: str, feature: _Feature, ends: np.ndarray) -> None:
        self._file, self._name, self._feature, self._ends = file, name, feature, ends
        self.shape = (int(ends[-1]), *feature.shape)
        self.dtype = feature.dtype

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        pieces = []
        while start < stop:
            number = bisect_right(self._ends, start)
            first = int(self._ends[number - 1]) if number else 0
            last = min(stop, int(self._ends[number]))
            pieces.append(self._decode(number, start - first, last - first))
            start = last
        return np.concatenate(pieces) if pieces else np.empty((0, *self.shape[1:]), self.dtype)

    def _decode(self, number: int, start: int, stop: int) -> np.ndarray:
        values, feature = self._file.episode(number)[self._name], self._feature
        if feature.kind == "image":
            return np.stack([_picture(cell, feature, self._name) for cell in values[start:stop]])
        if feature.kind == "text":
            return np.stack([_text(cell) for cell in values[start:stop]])
        array = np.array(values, feature.dtype).reshape(-1, *feature.shape)
        return array[start:stop]


def _picture(encoded: bytes, feature: _Feature, name: str) -> np.ndarray:
    image = np.asarray(require("PIL.Image", "lerobot").open(io.BytesIO(encoded)))
    if image.shape != feature.shape:
        raise ValueError(f"{name!r}: picture of shape {image.shape}, declared {feature.shape}")
    return image


def _text(encoded: bytes) -> np.ndarray:
    text = encoded.decode()
    # Steps without an instruction have an empty one.
    return encode_instruction(text) if text.strip() else np.zeros(INSTRUCTION_BYTES, np.uint8)


def _declared(prefix: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, _Feature | None]]:
    """Yield name and feature of everything declared; None for what is no column of the steps."""
    if "sequence" in entry:
        yield from _declared(prefix, entry["sequence"]["feature"])
    elif "featuresDict" in entry:
        for name, child in entry["featuresDict"]["features"].items():
            yield from _declared(f"{prefix}/{name}" if prefix else name, child)
    else:
        yield prefix, _feature_of(entry) if prefix.startswith(_STEPS) else None


def _feature_of(entry: Mapping[str, Any]) -> _Feature | None:
    """A feature that holds numbers, pictures or text, None for others."""
    if "image" in entry:
        return _Feature("image", _shape(entry["image"]), np.dtype(np.uint8))
    if "text" in entry:
        return _Feature("text", (INSTRUCTION_BYTES,), np.dtype(np.uint8))
    if (tensor := entry.get("tensor")) and tensor["dtype"] != "string":
        return _Feature("tensor", _shape(tensor), np.dtype(tensor["dtype"]))
    return None


def _shape(entry: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in entry["shape"].get("dimensions", []))


def _splits(path: Path) -> str:
    found = sorted({file.name for file in path.glob("*.tfrecord*")})
    return ", ".join(found[:4]) or "none"


def _declared_episodes(path: Path) -> dict[str, int]:
    """Number of episodes that ``dataset_info.json`` counts, by split."""
    info = path / "dataset_info.json"
    splits = read_json_object(info).get("splits") if info.exists() else None
    return {
        str(split["name"]): sum(int(length) for length in split.get("shardLengths") or ())
        for split in (splits if isinstance(splits, list) else ())
        if isinstance(split, Mapping) and split.get("name")
    }


class RldsFormat(Format):
    """Folders of TensorFlow Datasets; see the module's text."""

    name = "rlds"
    description = "folder of an RLDS dataset, with features.json"
    options = (Option("subset", "", "one split only, e.g. train"),)

    def recognise(self, path: Path) -> bool:
        """By ``features.json``."""
        return (path / "features.json").is_file()

    def open(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> RldsFile:
        """Open a folder."""
        return RldsFile(path, options, resources)


FORMAT = RldsFormat()
