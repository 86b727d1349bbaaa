"""The front door to dataset files: the file name decides the format."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from .columns import ColumnFile, require_path
from .d4rl import D4RL_SUFFIXES, open_d4rl, read_d4rl
from .diffusion_policy import REPLAY_SUFFIXES, open_replay, read_replay
from .episodes import Episodes


def read_episodes(path: Path | str, keys: Mapping[str, str] | None = None) -> Episodes:
    """Read demonstrations from any known dataset file.

    Args:
        path: ``.zarr`` folder, ``.zarr.zip`` or ``.npz`` of diffusion_policy, or D4RL ``.hdf5``.
        keys: From ``action``, ``reward`` and ``observation.*`` to columns of the file, see
            `read_replay` and `read_d4rl` for the defaults.

    Raises:
        FileNotFoundError: If `path` does not exist; names the nearest file names.
        ValueError: If the format is unknown, or the file is damaged or inconsistent.
    """
    path = check_path(path)
    if path.name.endswith(D4RL_SUFFIXES):
        return read_d4rl(path, keys)
    return read_replay(path, keys)


def open_columns(path: Path | str) -> AbstractContextManager[ColumnFile]:
    """Open a dataset file without decoding anything; errors as in `read_episodes`."""
    path = check_path(path)
    return open_d4rl(path) if path.name.endswith(D4RL_SUFFIXES) else open_replay(path)


def check_path(path: Path | str) -> Path:
    """Return `path` if it exists and has a known suffix, else raise as `read_episodes` does."""
    path = require_path(path)
    if not path.name.endswith(REPLAY_SUFFIXES + D4RL_SUFFIXES):
        raise ValueError(
            f"{path}: unknown dataset suffix {path.suffix!r}; expected one of "
            f"{', '.join(REPLAY_SUFFIXES + D4RL_SUFFIXES)}"
        )
    return path
