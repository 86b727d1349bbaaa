"""Optional packages, imported when they are needed."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

# Packages that cannot be installed on older versions of Python than these.
_OLDEST_PYTHON = {"minari": (3, 11), "rerun": (3, 11), "zarr": (3, 11)}


def require(module: str, extra: str) -> Any:
    """Import an optional `module`, or say which extra of hotloop brings it.

    Raises:
        ImportError: If the package is not installed; the message is the command to type.
    """
    try:
        return import_module(module)
    except ImportError as error:
        oldest = _OLDEST_PYTHON.get(module, (0, 0))
        needs = f" on Python {oldest[0]}.{oldest[1]} or later" if sys.version_info < oldest else ""
        raise ImportError(f"{module} is missing: pip install 'hotloop[{extra}]'{needs}") from error
