"""Modules that several programs share, and with them what engines compile: exporting takes seconds.

Nothing is kept alive here. A module lives as long as a program that calls it, and is found as long.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import cast
from weakref import WeakValueDictionary

from torch import nn

_modules: WeakValueDictionary[Hashable, nn.Module] = WeakValueDictionary()


def shared(
    kind: Callable[..., nn.Module],
    owner: nn.Module,
    make: Callable[[], nn.Module],
    *choices: object,
) -> nn.Module:
    """The module of a kind around `owner` that makes these choices; it is made if there is none.

    Args:
        kind: What the module is, its class.
        owner: Part of the module, so that it lives as long: a network or a whole model.
        make: Makes it.
        choices: What else makes it the one that it is, hashable.
    """
    # The module holds its owner, so that no other one can have this id while the module is found.
    key = (kind, id(owner), *cast("tuple[Hashable, ...]", choices))
    module = _modules.get(key)
    if module is None:
        module = _modules[key] = make().eval()
    return module
