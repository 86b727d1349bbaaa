"""JSON files of datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..pointers import is_pointer, pointer_message


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that must hold an object; raise ValueError naming it if it does not."""
    try:
        # Windows writes a byte order mark in front.
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if is_pointer(path):
            raise ValueError(pointer_message(path)) from error
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a JSON object, found {str(found)[:80]}")
    return found
