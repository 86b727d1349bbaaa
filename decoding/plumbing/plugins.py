"""Things that are found by name: those of hotloop, those of installed plugins, and ``module:Name``.

A plugin is an entry point of an installed distribution in one of the groups ``hotloop.policies``,
``.networks``, ``.engines``, ``.tasks``, ``.formats``, ``.commands``, ``.drivers``,
``.cameras``, ``.robot_policies``, ``.stop_inputs``, ``.encoders``, ``.lerobot_types``,
``.export_formats`` and ``.distillations``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class Registry(Generic[T]):
    """All members of one group, imported when they are asked for and not before.

    Args:
        group: Entry-point group of plugins, e.g. ``"hotloop.drivers"``.
        noun: What a member is called in messages, e.g. ``"driver"``.
        included: hotloop's own members by name, each written ``"module:Name"``, the module
            relative to `package`.
        package: Package that the modules of `included` are relative to.
    """

    def __init__(self, group: str, noun: str, included: Mapping[str, str], package: str) -> None:
        self.group, self.noun = group, noun
        self._included, self._package = dict(included), package

    @property
    def included(self) -> list[str]:
        """Names of hotloop's own members, in their order."""
        return list(self._included)

    @cached_property
    def plugins(self) -> dict[str, EntryPoint]:
        """Entry points of installed plugins by name; none of them is imported yet."""
        return {point.name: point for point in entry_points(group=self.group)}

    @property
    def names(self) -> list[str]:
        """Names of all members, hotloop's own and plugins', sorted."""
        return sorted({*self._included, *self.plugins})

    def __contains__(self, name: str) -> bool:
        """Whether `name` is a member's, or of the form ``module:Name``."""
        return name in self._included or name in self.plugins or ":" in name

    def get(self, name: str) -> T:
        """The member of that name.

        hotloop's own members come before plugins of the same name.

        Raises:
            ValueError: If there is no such member; the message names the nearest ones.
            ImportError: If a plugin or ``module:Name`` cannot be imported; the message names it,
                its distribution, and what is wrong with it.
        """
        if name in self._included:
            module, _, attribute = self._included[name].partition(":")
            return cast("T", getattr(import_module(f".{module}", self._package), attribute))
        if name in self.plugins:
            return cast("T", _load_plugin(self.plugins[name]))
        if ":" in name:
            return cast("T", _load_path(name, self.noun))
        raise ValueError(self.unknown(name))

    def unknown(self, name: str, *further: str) -> str:
        """Say that there is no member `name`, and which there are, and which `further` choices."""
        names = [*further, *self.names]
        near = get_close_matches(name, names, n=1)
        question = f" (did you mean {near[0]}?)" if near else ""
        return (
            f"there is no {self.noun} {name!r}{question}; choose from {', '.join(names)}, or "
            "name one of your own as module:Name"
        )


def refuse_no_class(found: Any, noun: str, name: str, members: Sequence[str]) -> None:
    """Raise ValueError unless `found` is a class with such members, before anybody calls it.

    A name may come from a file of unknown origin, and what it stands for may be anything.
    """
    if not isinstance(found, type) or not all(hasattr(found, member) for member in members):
        raise ValueError(
            f"{noun} {name!r} is {found!r}; a {noun} must be a class with {', '.join(members)}"
        )


def _load_plugin(point: EntryPoint) -> Any:
    """Import what an entry point names, or say whose plugin is broken."""
    try:
        return point.load()
    except Exception as error:
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
        raise ImportError(
            f"plugin {point.name!r} ({point.group}, from {origin}) cannot be imported from "
            f"{point.value}: {type(error).__name__}: {error}; mend or uninstall that package"
        ) from error


def _load_path(path: str, noun: str) -> Any:
    """Import ``module:Name``, or say which half of it is not there."""
    module, _, attribute = path.partition(":")
    try:
        found = import_module(module)
    except Exception as error:
        raise ImportError(
            f"{noun} {path!r}: module {module!r} cannot be imported: {type(error).__name__}: "
            f"{error}; it has to be installed, or its folder named in PYTHONPATH"
        ) from error
    if not hasattr(found, attribute):
        raise ImportError(f"{noun} {path!r}: module {module!r} has no {attribute!r}")
    return getattr(found, attribute)
