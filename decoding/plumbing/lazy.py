"""Names of a package that are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Make a package's ``__getattr__``.

    A command's help passes through most packages and needs neither numpy nor torch. No submodule
    may have the name of something that is asked for: once imported, it would be found instead.

    Args:
        package: ``__name__`` of the package.
        homes: By submodule, the names that it defines.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def __getattr__(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{home_of[name]}", package), name)

    return __getattr__
