"""Where what can be made again is kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """``$HOTLOOP_CACHE``, by default ``~/.cache/hotloop``; safe to delete at any time."""
    return Path(os.environ.get("HOTLOOP_CACHE") or Path.home() / ".cache" / "hotloop")
