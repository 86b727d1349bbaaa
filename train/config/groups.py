"""What a configuration group chooses among: shipped files, bare names, and one's own files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

SUFFIXES = (".yaml", ".yml")
BASE = "base"


@dataclass(frozen=True)
class OwnFile:
    """What one file of the user's sets.

    Attributes:
        path: The file.
        values: What it holds, but for its base.
    """

    path: Path
    values: dict[str, Any]


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
            own, base = _read(path, self.name)
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


def _read(path: Path, group: str) -> tuple[OwnFile, str | None]:
    """The content of a file and its base.

    Raises:
        ValueError: If there is no such file, or it holds no mapping.
    """
    # Not plain YAML: that takes 1e-3 for a text, and the last of two equal keys without a word.
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        text = path.read_text(encoding="utf-8")
        values = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except FileNotFoundError:
        raise ValueError(f"{group}={path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{group}={path}: it cannot be read as text: {error}") from None
    except (YAMLError, OmegaConfBaseException, ValueError) as error:
        where = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid YAML: {where}") from None
    if not (values and isinstance(values, dict) and all(isinstance(key, str) for key in values)):
        raise ValueError(f"{path}: expected names and values (key: value), got {values!r:.60}")
    base = values.pop(BASE, None)
    if base is not None and not isinstance(base, str):
        raise ValueError(f"{path}: {BASE}: expected the name of a {group} or a file, got {base!r}")
    return OwnFile(path, cast("dict[str, Any]", values)), base
