"""Which features of a column are read, and the text that says so."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...decoding.instruction import INSTRUCTION_KEY
from .columns import Column

_SELECTOR = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<parts>[\d:,\s]+)\])?")
_FORM = "column selector must look like 'state', 'state[0:2]' or 'state[0:2,5]'"
_PART = re.compile(r"(?P<start>\d*)(?P<range>:)?(?P<stop>\d*)")


OpenColumn = Callable[[str], Column]


@dataclass(frozen=True)
class Selection:
    """A column, or some of its features, under the name that hotloop gives it.

    Attributes:
        column: Name in the file.
        features: Which numbers of the flattened step, in this order; None for all.
        shape: Shape of a step; None flattens what is not a picture.
    """

    column: str
    features: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Wanted:
    """What is read where no columns are named: the state, actions and rewards, and these.

    Attributes:
        pictures: Whether pictures are read; or keys of those that are, also of named columns.
        instruction: What the robot was asked to do, ``observation.instruction``, also where the
            file has it as tasks.
        everything: All that the file has.
    """

    pictures: bool | tuple[str, ...] = False
    instruction: bool = False
    everything: bool = False

    def takes(self, key: str, selection: Selection, open_column: OpenColumn) -> bool:
        """Whether a selection is read that nobody has named."""
        if self.everything:
            return True
        if key.startswith("info."):
            return False
        if key == INSTRUCTION_KEY:
            return self.instruction
        column = open_column(selection.column)
        if is_picture_of(key, selection, column):
            return self.pictures if isinstance(self.pictures, bool) else key in self.pictures
        return not column.is_picture

    def keeps(self, key: str, selection: Selection, open_column: OpenColumn) -> bool:
        """Whether a selection is read that was named: all but pictures that were not chosen."""
        if isinstance(self.pictures, bool) or key in self.pictures:
            return True
        return not is_picture_of(key, selection, open_column(selection.column))


def is_picture_of(key: str, selection: Selection, column: Column) -> bool:
    """Whether a selection is read as pictures, and not as numbers or a map of them."""
    is_whole = key.startswith("observation.") and selection.features is None
    return is_whole and column.picture_axes is not None


def parse_selector(selector: str, path: Path, open_column: OpenColumn) -> Selection:
    """Read a selector: ``"state"`` is a column, ``"state[:2,5]"`` some of its features.

    Args:
        selector: Name of a column, and in brackets features and ranges of them, in any order.
        path: The dataset, for messages.
        open_column: Opens a column, or raises ValueError.

    Raises:
        ValueError: If the column or a feature does not exist, or is chosen twice.
    """
    match = _SELECTOR.fullmatch(selector)
    if match is None:
        raise ValueError(f"{path}: {_FORM}, got {selector!r}")
    column = open_column(match["name"])
    if match["parts"] is None:
        return Selection(column.name)
    features: list[int] = []
    for text in match["parts"].split(","):
        features += _features(text.strip(), column, selector)
    if len(set(features)) != len(features):
        raise ValueError(f"{path}: {selector!r} takes a feature twice")
    whole = features == list(range(column.num_features))
    return Selection(column.name, None if whole else tuple(features))


def _features(text: str, column: Column, selector: str) -> range:
    """Features of one part, such as ``5``, ``:2`` or ``3:``."""
    match = _PART.fullmatch(text)
    if match is None or not (match["range"] or match["start"]):
        raise ValueError(f"{column.path}: {_FORM}, got {selector!r}")
    start = int(match["start"] or 0)
    stop = int(match["stop"] or column.num_features) if match["range"] else start + 1
    if not 0 <= start < stop <= column.num_features:
        raise ValueError(
            f"{column.path}: {selector!r} is out of range, column {column.name!r} has "
            f"{column.num_features} features"
        )
    return range(start, stop)
