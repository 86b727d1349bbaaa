"""Policies over a network: a server for many robots, and a policy that is served elsewhere.

The wire format is openpi's, so that its clients work unchanged; see `codec` and `requests`. Numpy,
msgpack and websockets are all it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plumbing.lazy import lazily

if TYPE_CHECKING:
    from .client import RemotePolicy
    from .options import ServerOptions
    from .server import PolicyServer

__all__ = ["PolicyServer", "RemotePolicy", "ServerOptions"]

__getattr__ = lazily(
    __name__,
    {
        "client": ("RemotePolicy",),
        "options": ("ServerOptions",),
        "server": ("PolicyServer",),
    },
)
