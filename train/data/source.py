"""What every dataset format offers: columns to choose from, episode borders, provenance."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .columns import DECODE_ERRORS, Column, StoredArray

_SELECTOR = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<start>\d*):(?P<stop>\d*)\])?")


@dataclass(frozen=True)
class ReadOptions:
    """What a file itself does not say. Each format takes only the options that it needs.

    Attributes:
        max_episode_steps: D4RL: cut episodes after this many steps, for files without ``timeouts``
            (the first kitchen and Adroit releases); 0 uses ``timeouts``.
        shift_rewards: D4RL's maze2d: the file stores at step t the reward of state t, while an
            action's reward is that of the state it leads to; this moves all rewards one step
            earlier.
        subset: robomimic: read the demonstrations of ``mask/SUBSET`` only, e.g. ``train``.
        absolute_actions: robomimic: read ``actions_abs`` where an action is needed.
        accept_robosuite: robomimic: train on a file of this robosuite version although another one
            is installed.
    """

    max_episode_steps: int = 0
    shift_rewards: bool = False
    subset: str = ""
    absolute_actions: bool = False
    accept_robosuite: str = ""


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


@dataclass(frozen=True)
class Selection:
    """A column, or some of its features, under the name that hotloop gives it.

    Attributes:
        column: Name in the file.
        start: First feature.
        stop: Exclusive last feature, None for all.
        shape: Shape of a step; None flattens what is not an image.
    """

    column: str
    start: int = 0
    stop: int | None = None
    shape: tuple[int, ...] | None = None


class DatasetFile(ABC):
    """An open dataset; nothing is decoded before it is asked for.

    Every method may raise ValueError naming the file and what is wrong with it.

    Args:
        path: File or folder.
        options: Only fields that `takes` names may differ from the default.
        resources: Closes at its end what the file keeps open.
    """

    layout = ""
    action_column = "actions"
    takes: tuple[str, ...] = ()

    def __init__(self, path: Path, options: ReadOptions, resources: ExitStack) -> None:
        del resources
        self.path, self.options = path, options
        refused = [
            name
            for name in vars(ReadOptions())
            if getattr(options, name) != getattr(ReadOptions(), name) and name not in self.takes
        ]
        if refused:
            raise ValueError(
                f"{self.layout} files have no option {refused[0]!r}; they take "
                f"{', '.join(self.takes) or 'none'}"
            )

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

    def problems(self) -> Iterable[str]:
        """What else is wrong in the file, beyond columns and episode borders."""
        return ()

    def column(self, name: str) -> Column:
        """Open column `name`; raise ValueError if it is absent, not numeric or incomplete."""
        if name not in self.names:
            raise ValueError(
                f"{self.path}: no column {name!r}; the file has {', '.join(self.names) or 'none'}"
            )
        try:
            array = self.open_array(name)
            shape, dtype = tuple(array.shape), array.dtype
        # zarr takes array metadata as keyword arguments: damaged names are TypeErrors or KeyErrors.
        except (*DECODE_ERRORS, KeyError, TypeError) as error:
            raise ValueError(f"{self.path}: column {name!r} cannot be opened: {error}") from error
        if dtype.kind not in "biuf" or not shape:
            raise ValueError(
                f"{self.path}: column {name!r} must hold numbers, one row per step; found "
                f"{dtype} of shape {shape}"
            )
        return Column(self.path, name, array)

    def parse(self, selector: str) -> Selection:
        """Read a selector: ``"state"`` is a column, ``"state[:2]"`` some of its features.

        Raises:
            ValueError: If the column or the range does not exist.
        """
        match = _SELECTOR.fullmatch(selector)
        if match is None:
            raise ValueError(
                f"{self.path}: column selector must look like 'state' or 'state[0:2]', "
                f"got {selector!r}"
            )
        num_features = self.column(match["name"]).num_features
        start = int(match["start"] or 0)
        stop = int(match["stop"] or num_features)
        if not 0 <= start < stop <= num_features:
            raise ValueError(
                f"{self.path}: {selector!r} is out of range, column {match['name']!r} has "
                f"{num_features} features"
            )
        whole = (start, stop) == (0, num_features)
        return Selection(match["name"]) if whole else Selection(match["name"], start, stop)

    def select(self, keys: Mapping[str, str] | None, *, everything: bool) -> dict[str, Selection]:
        """What to read: `keys`, or all but images and infos unless `everything` is wanted.

        Raises:
            ValueError: If `keys` is not usable, naming the file and the key.
        """
        if not keys:
            return {
                key: selection
                for key, selection in self.default_keys().items()
                if everything or not (key.startswith("info.") or self._is_image(selection))
            }
        observations = [key for key in keys if key.startswith("observation.")]
        infos = [key for key in keys if key.startswith("info.")]
        unknown = set(keys) - {"action", "reward", *observations, *infos}
        if unknown or "action" not in keys or not observations:
            raise ValueError(
                f"{self.path}: keys must be 'action', at least one 'observation.NAME' and "
                f"optionally 'reward' and 'info.NAME', got {sorted(keys)}"
            )
        return {key: self.parse(selector) for key, selector in keys.items()}

    def _is_image(self, selection: Selection) -> bool:
        return self.column(selection.column).is_image


@contextmanager
def open_as(kind: type[DatasetFile], path: Path, options: ReadOptions) -> Iterator[DatasetFile]:
    """Open a dataset of a known format, and close it after use; decode nothing.

    Raises:
        ValueError: If it is damaged or of another format, naming `path`.
    """
    with ExitStack() as resources:
        try:
            file = kind(path, options, resources)
        except DECODE_ERRORS as error:
            raise ValueError(f"{path}: cannot be opened: {error}") from error
        yield file
