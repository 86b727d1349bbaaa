"""What a format of datasets is: how it is recognised, read and written.

To add one, write a module with a `DatasetFile` and a subclass of `Format`, and name an instance of
it in `registry.FORMATS` or, in a package of your own, in the entry-point group ``hotloop.formats``:

    [project.entry-points."hotloop.formats"]
    rosbag = "my_package.rosbag:FORMAT"

Reading, writing, options, help texts and `hotloop data inspect` need nothing else. Prove it with
`train.data.conformance.check_format`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..episodes import Episodes
from ..source import DatasetFile

Advance = Callable[[int], object]


@dataclass(frozen=True)
class Option:
    """Something that files of a format do not say, so the reader has to be told.

    Attributes:
        name: Key in `ReadOptions`; on the command line ``--name``, with hyphens.
        default: Value where it is not told; its type is the option's.
        help: One sentence for the command's help text.
    """

    name: str
    default: bool | int | float | str
    help: str


class Format(ABC):
    """One format of datasets.

    Attributes:
        name: What it is called in commands.
        description: What a dataset of it looks like from outside, for help texts.
        suffixes: Ends of the names of its files; none for folders of any name.
        options: What its reader can be told.
        keeps: Fields of `Episodes` that it keeps, besides observations, actions, rewards, episode
            ends, infos and metadata: of ``terminated``, ``final_observations``, ``texts``,
            ``pictures``.
        parts: Matches the path of every file that belongs to a folder of the format; a folder that
            holds any other file is not replaced.
    """

    name: str
    description: str
    suffixes: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    keeps: frozenset[str] = frozenset()
    parts: re.Pattern[str] = re.compile("")
    is_writable = False

    @abstractmethod
    def recognise(self, path: Path) -> bool:
        """Whether an existing path is of this format, by name and outer form; decode nothing."""

    @abstractmethod
    def open(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> DatasetFile:
        """Open a dataset.

        Args:
            path: What `recognise` said yes to.
            options: Value of each of `options`.
            resources: Closes what stays open.

        Raises:
            ValueError: If it is damaged or not of this format after all.
        """

    def write(self, partial: Path, episodes: Episodes, path: Path, advance: Advance) -> None:
        """Write a new dataset.

        Args:
            partial: File or folder to create; it is then moved to `path`.
            episodes: What to write.
            path: Name of the dataset.
            advance: Told numbers of steps as they are written.

        Raises:
            ValueError: If the format has no place for the data.
        """
        raise NotImplementedError

    def target(self, path: Path) -> Path:
        """Where a dataset of a given name is written; raise ValueError if the name does not fit."""
        if self.suffixes and not path.name.endswith(self.suffixes):
            raise ValueError(
                f"{path}: a {self.name} dataset must end in {' or '.join(self.suffixes)}, got "
                f"{path.suffix!r}"
            )
        return path

    def locate(self, name: str) -> Path | None:
        """Path of the dataset of an id, None if `name` is no id of this format.

        Raises:
            FileNotFoundError: If it is one, but its files are not there.
        """
        del name
        return None

    def ids(self) -> list[str]:
        """Ids that `locate` knows, to suggest the nearest one."""
        return []

    def complete_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Value of every option; raise ValueError for an option or a type that it does not take."""
        defaults = {option.name: option.default for option in self.options}
        for name, value in given.items():
            if name not in defaults:
                raise ValueError(
                    f"{self.name} files have no option {name!r}; they take "
                    f"{', '.join(defaults) or 'none'}"
                )
            expected = type(defaults[name])
            if type(value) is not expected and not (expected is float and type(value) is int):
                raise ValueError(
                    f"option {name!r} of {self.name} files must be of type {expected.__name__}, "
                    f"got {value!r}"
                )
        return {**defaults, **given}
