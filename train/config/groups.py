"""What a configuration group chooses among: shipped files, bare names, and one's own files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from .own_file import OwnFile, read_own_file

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Choice:
    """A member of a group.

    Attributes:
        shipped: Name of the shipped file that it begins with; empty for none.
        values: What is set beyond that, of this group.
        files: The user's files, each refining those before it.
    """

    shipped: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    files: tuple[OwnFile, ...] = ()


@dataclass(frozen=True)
class Group:
    """One configuration group, e.g. ``"robot"``.

    Attributes:
        name: Its name, in the configuration as in messages.
        folder: Folder of its shipped files.
    """

    name: str
    folder: Path

    @property
    def members(self) -> list[str]:
        """Names that can be chosen, sorted."""
        return sorted({*(path.stem for path in self.folder.glob("*.yaml")), *self._named})

    def choose(self, choice: str) -> Choice:
        """Find the member `choice`, by name or by path.

        Raises:
            ValueError: If there is no such member, or a file is no mapping, or its bases form a
                cycle; the message names the file.
        """
        if not is_file(choice):
            return self._by_name(choice)
        files: list[OwnFile] = []
        path = Path(choice)
        while True:
            own, base = read_own_file(path, self.name)
            if any(own.path.resolve() == other.path.resolve() for other in files):
                circle = " -> ".join(str(one.path) for one in reversed([own, *files]))
                raise ValueError(f"{self.name}={choice}: its bases form a circle: {circle}")
            files.insert(0, own)
            if base is None or not is_file(base):
                break
            path = path.parent / base
        if base is None:
            return Choice(files=tuple(files))
        try:
            found = self._by_name(base)
        except ValueError as error:
            raise ValueError(f"{path}: base: {error}") from None
        return Choice(found.shipped, found.values, tuple(files))

    def _by_name(self, choice: str) -> Choice:
        """A shipped file, or a task that needs none because its name says everything."""
        if (self.folder / f"{choice}.yaml").is_file():
            return Choice(shipped=choice)
        if choice in self._named or (self._takes_paths and ":" in choice):
            return Choice(values={"name": choice})
        near = get_close_matches(choice, self.members, n=1)
        question = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(
            f"{self.name}={choice}: there is no {self.name} of that name{question}; choose from "
            f"{', '.join(self.members)}, or give a file of your own as {self.name}=PATH.yaml"
        )

    @property
    def _takes_paths(self) -> bool:
        return self.name == "task"

    @property
    def _named(self) -> list[str]:
        """Members of a registry, which need no file."""
        if not self._takes_paths:
            return []
        from ...envs.registry import TASKS

        return TASKS.names


def is_file(choice: str) -> bool:
    """Whether a choice is a path, and no name: it has a suffix of YAML, or a slash."""
    return choice.endswith(SUFFIXES) or ("/" in choice and ":" not in choice)


def merged(old: Any, new: Any) -> Any:
    """`old` refined by `new`: mappings key by key, everything else replaced."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    result = dict(cast("Mapping[str, Any]", old))
    for key, value in cast("Mapping[str, Any]", new).items():
        result[key] = merged(result[key], value) if key in result else value
    return result
