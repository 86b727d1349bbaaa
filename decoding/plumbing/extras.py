"""Optional packages, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def require(module: str, extra: str) -> Any:
    """Import an optional `module`, or say which extra of hotloop brings it.

    Raises:
        ImportError: If the package is not installed; the message is the command to type.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is missing: pip install 'hotloop[{extra}]'") from error
