"""What every dataset format offers: columns to choose from, episode borders, provenance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding.instruction import INSTRUCTION_KEY
from .columns import Column, StoredArray, naming
from .selection import Selection, Wanted, is_picture_of, parse_selector
from .tasks import TASK_COLUMN, TaskTexts, known_texts

# What a file itself does not say, by name; every format declares which options it takes.
ReadOptions = dict[str, Any]


@dataclass(frozen=True)
class Cuts:
    """Where episodes end.

    Attributes:
        episode_ends: Exclusive ends, shape (E,), int64, as the file has them.
        terminated: Which episodes ended in a terminal state, shape (E,), bool.
        num_unfinished: Episodes that the file just stops in.
    """

    episode_ends: np.ndarray
    terminated: np.ndarray
    num_unfinished: int = 0


class DatasetFile(ABC):
    """An open dataset; nothing is decoded before it is asked for.

    Methods may raise ValueError naming the file and what is wrong with it. Whatever else the
    decoders of strangers raise becomes such a ValueError in `open_with`.

    Args:
        path: File or folder.
        options: Value of every option that the format takes.
        resources: Closes at its end what the file keeps open.

    Attributes:
        layout: Name of the format.
        action_column: Column of the actions.
        task_column: Column that says which of ``metadata()["tasks"]`` each step belongs to.
        required: Columns that every file has, besides the actions.
        bookkeeping: Columns that say no more than `cuts`, `final_rows` and the order of rows do.
    """

    layout = ""
    action_column = "actions"
    task_column = ""
    required: tuple[str, ...] = ()
    bookkeeping: tuple[str, ...] = ()

    def __init__(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> None:
        del resources
        self.path, self.options = path, options

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Every column in the file."""

    @abstractmethod
    def open_array(self, name: str) -> StoredArray:
        """Open one of `names` without decoding it."""

    @abstractmethod
    def cuts(self) -> Cuts:
        """Episode borders, without judging that they fit the columns."""

    @abstractmethod
    def default_keys(self) -> dict[str, Selection]:
        """What hotloop reads when it is not told: all that there is, by hotloop's names.

        Keys are ``action``, ``reward``, ``observation.NAME`` and ``info.NAME``.
        """

    def metadata(self) -> dict[str, Any]:
        """Provenance in the file."""
        return {}

    def final_rows(self, name: str, cuts: Cuts) -> np.ndarray | None:
        """Rows of column `name` after each episode's last action, (E, *shape), where known."""
        del name, cuts
        return None

    def declared_picture(self, name: str) -> tuple[int, ...] | None:
        """Height, width and channels that the file declares of a column, beside the data."""
        del name
        return None

    def texts(self) -> dict[str, list[str]]:
        """A text for each episode by name, see `Episodes.texts`."""
        return {}

    def feature_names(self, name: str) -> list[str] | None:
        """Names of the features of a column, where the file says them beside the column."""
        del name
        return None

    def rate(self) -> float | None:
        """Control frequency [Hz] that the file declares, if it does."""
        return stated_rate(self.metadata())

    def timestamps(self) -> np.ndarray | None:
        """When each step was recorded [s], shape (T,), where the file says it."""
        return None

    def faults(self, cuts: Cuts) -> Iterable[str]:
        """What cannot be right about time and order, beyond `timestamps`."""
        del cuts
        return ()

    def absences(self) -> Iterable[str]:
        """What the file declares and does not hold, such as episodes that were not copied."""
        return ()

    def problems(self) -> Iterable[str]:
        """What else is wrong in the file, beyond columns and episode borders."""
        return ()

    def notes(self) -> Iterable[str]:
        """What is not wrong, but worth to be told."""
        return ()

    def inspection_facts(self) -> dict[str, Any]:
        """What an inspection tells besides the metadata."""
        return {}

    def losses(self) -> Iterable[str]:
        """What the file holds and `Episodes` has no place for."""
        return ()

    def tasks(self) -> list[str]:
        """What the robot was asked to do, by task index; empty texts belong to no task."""
        stated = self.metadata().get("tasks")
        return [str(text or "") for text in stated] if isinstance(stated, Sequence) else []

    def column(self, name: str) -> Column:
        """Open column `name`; raise ValueError if it is absent, not numeric or incomplete."""
        if name == TASK_COLUMN and name not in self.names and (texts := self._texts()) is not None:
            return Column(self.path, name, texts)
        if name not in self.names:
            raise ValueError(
                f"{self.path}: no column {name!r}; the file has {', '.join(self.names) or 'none'}"
            )
        with naming(self.path, f"column {name!r} cannot be opened"):
            array = self.open_array(name)
            shape, dtype = tuple(array.shape), array.dtype
        if dtype.kind not in "biuf" or not shape or min(shape[1:], default=1) < 1:
            raise ValueError(
                f"{self.path}: column {name!r} must hold numbers, one row per step; found "
                f"{dtype} of shape {shape}"
            )
        return Column(self.path, name, array)

    def select(
        self, keys: Mapping[str, str] | None = None, wanted: Wanted | None = None
    ) -> dict[str, Selection]:
        """What to read: `keys`, or what is `wanted` of all that there is.

        Raises:
            ValueError: If `keys` is not usable, naming the file and the key.
        """
        named = self._parse(keys) if keys else self.default_keys()
        wanted = wanted or Wanted()
        is_read = wanted.keeps if keys else wanted.takes
        chosen = {k: s for k, s in named.items() if is_read(k, s, self.column)}
        has_texts = INSTRUCTION_KEY in chosen or not known_texts(self.tasks())
        if wanted.instruction and not has_texts:
            chosen[INSTRUCTION_KEY] = Selection(TASK_COLUMN)
        return chosen

    def left_out(self, keys: Mapping[str, str] | None, wanted: Wanted) -> list[str]:
        """Columns of observations that are not read, though nobody said so; see `select`.

        Naming columns says so of all others; of pictures, only where all that are named are read.
        """
        if keys and isinstance(wanted.pictures, bool):
            return []
        read = {selection.column for selection in self.select(keys, wanted).values()}
        return [
            selection.column
            for key, selection in self.default_keys().items()
            if key.startswith("observation.") and selection.column not in read
            if not keys or self.column(selection.column).is_picture
        ]

    def picture_keys(self, keys: Mapping[str, str] | None = None) -> list[str]:
        """Keys, see `select`, under which there are pictures."""
        selections = self.select(keys, Wanted(pictures=True)).items()
        return [key for key, s in selections if is_picture_of(key, s, self.column(s.column))]

    def _parse(self, keys: Mapping[str, str]) -> dict[str, Selection]:
        observations = [key for key in keys if key.startswith("observation.")]
        infos = [key for key in keys if key.startswith("info.")]
        unknown = set(keys) - {"action", "reward", *observations, *infos}
        if unknown or "action" not in keys or not observations:
            raise ValueError(
                f"{self.path}: keys must be 'action', at least one 'observation.NAME' and "
                f"optionally 'reward' and 'info.NAME', got {sorted(keys)}"
            )
        selections = {}
        for key, selector in keys.items():
            if key == INSTRUCTION_KEY and selector == self.task_column and self.tasks():
                selections[key] = Selection(TASK_COLUMN)
            elif selector not in self.names and selector in (own := self.default_keys()):
                selections[key] = own[selector]
            else:
                selections[key] = parse_selector(selector, self.path, self.column)
        return selections

    def _texts(self) -> TaskTexts | None:
        """The tasks as a column of texts, None if the file has none."""
        texts = self.tasks()
        if not known_texts(texts):
            return None
        index = self.column(self.task_column).array if self.task_column in self.names else None
        num_steps = self.column(self.action_column).num_steps if index is None else 0
        if index is None and len(known_texts(texts)) > 1:
            raise ValueError(
                f"{self.path}: there are {len(texts)} tasks, but no column that says which one "
                "each step belongs to"
            )
        return TaskTexts(texts, index, num_steps)


def stated_rate(facts: Mapping[str, Any]) -> float | None:
    """Control frequency [Hz] that metadata state: ``fps``, ``dt`` or robomimic's control_freq."""
    found = _number(facts.get("fps"))
    if found is None and (period := _number(facts.get("dt"))):
        found = 1 / period
    for name in ("env_args", "env_kwargs"):
        inner = facts.get(name)
        facts = inner if isinstance(inner, Mapping) else {}
    return found or _number(facts.get("control_freq"))


def rate_problems(facts: Mapping[str, Any]) -> Iterator[str]:
    """What metadata state as a control frequency and cannot be one; arguments as `stated_rate`."""
    where = "metadata"
    for inner in ("", "env_args", "env_kwargs"):
        if inner:
            found, where = facts.get(inner), inner
            if found is not None and not isinstance(found, Mapping):
                yield f"{inner} must be a JSON object, found {str(found)[:80]}"
            facts = found if isinstance(found, Mapping) else {}
        for name in ("fps", "dt", "control_freq"):
            if facts.get(name) is not None and _number(facts[name]) is None:
                yield f"{where}: {name} must be a number above 0, found {str(facts[name])[:80]!r}"


def _number(value: Any) -> float | None:
    usable = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if usable and np.isfinite(value) and value > 0 else None
