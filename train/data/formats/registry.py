"""The front door to datasets: which format a file or id is of, how it is read and written."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from ..cache import EpisodeCache
from ..columns import require_path
from ..decode import Decoding
from ..episodes import Episodes
from ..source import DatasetFile, ReadOptions, open_as
from .d4rl import D4RL_SUFFIXES, D4rlFile
from .d4rl_ids import D4RL_FILES, d4rl_path
from .diffusion_policy import REPLAY_SUFFIXES, ReplayFile
from .lerobot import LeRobotFile
from .minari import MinariFile, is_minari_id, local_minari_ids, minari_folder
from .rlds import RldsFile
from .robomimic import RobomimicFile

# Decoded data up to this size [bytes] stays in memory; more is decoded into a cache folder.
MAX_MEMORY = 2**29


def read_episodes(
    name: Path | str,
    keys: Mapping[str, str] | None = None,
    options: ReadOptions | None = None,
    *,
    everything: bool = False,
    max_memory: int = MAX_MEMORY,
) -> Episodes:
    """Read demonstrations from any known dataset.

    Args:
        name: Path of a diffusion_policy ``.zarr``, ``.zarr.zip`` or ``.npz``, of a D4RL or
            robomimic ``.hdf5``, of a Minari or LeRobotDataset folder; or a D4RL id
            (``hopper-medium-v2``) or Minari id (``D4RL/door/human-v2``) whose files are there.
        keys: From ``action``, ``reward``, ``observation.*`` and ``info.*`` to columns of the file
            or ranges of their features, e.g. ``{"observation.goal": "infos/goal", "action":
            "actions", "observation.state": "observations[:2]"}``. Default: as the format has it.
        options: What the file does not say itself.
        everything: Without `keys`, read images and infos too.
        max_memory: Size [bytes] above which arrays are memory-mapped from `cache_root`.

    Raises:
        FileNotFoundError: If there is no such file or id; names the nearest ones.
        ValueError: If the format is unknown, or the file is damaged or inconsistent.
    """
    path = find_dataset(name)
    options = options or ReadOptions()
    request = {"keys": dict(keys or {}), "options": asdict(options), "everything": everything}
    cache = EpisodeCache(path, request)
    if (cached := cache.load()) is not None:
        return cached
    facts = {"columns": dict(keys)} if keys else {}
    with open_as(kind_of(path), path, options) as file:
        decoding = Decoding(file, file.select(keys, everything=everything))
        if decoding.num_bytes <= max_memory:
            return decoding.run(facts)
        return cache.build(lambda allocate: decoding.run(facts, allocate))


def open_dataset(
    name: Path | str, options: ReadOptions | None = None
) -> AbstractContextManager[DatasetFile]:
    """Open a dataset without decoding anything; errors as in `read_episodes`."""
    path = find_dataset(name)
    return open_as(kind_of(path), path, options or ReadOptions())


def find_dataset(name: Path | str) -> Path:
    """Path of a dataset given by path, D4RL id or Minari id; errors as in `read_episodes`."""
    text, path = str(name), Path(name)
    if path.exists():
        return path
    if text in D4RL_FILES:
        return d4rl_path(text)
    if not is_minari_id(text):
        return require_path(path)
    if (minari_folder() / text / "data").is_dir():
        return minari_folder() / text
    known = [*D4RL_FILES, *local_minari_ids()]
    nearest = difflib.get_close_matches(text, known, n=4, cutoff=0.5)
    raise FileNotFoundError(
        f"{text!r} is neither a file, nor a D4RL id, nor a Minari dataset in {minari_folder()}; "
        f"nearest: {', '.join(nearest) or 'none'}"
    )


def kind_of(path: Path) -> type[DatasetFile]:
    """The format of an existing file or folder; raise ValueError if it is none of ours."""
    if path.name.endswith(REPLAY_SUFFIXES):
        return ReplayFile
    if path.name.endswith(D4RL_SUFFIXES):
        return RobomimicFile if _has_demonstrations(path) else D4rlFile
    if (path / "meta" / "info.json").exists():
        return LeRobotFile
    if (path / "data" / "metadata.json").exists():
        return MinariFile
    if (path / "features.json").exists():
        return RldsFile
    suffixes = ", ".join(REPLAY_SUFFIXES + D4RL_SUFFIXES)
    raise ValueError(
        f"{path}: unknown dataset suffix {path.suffix!r}; expected one of {suffixes}, a "
        "LeRobotDataset folder with meta/info.json, a Minari folder with data/metadata.json or an "
        "RLDS folder with features.json"
    )


def _has_demonstrations(path: Path) -> bool:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "data" in file
    # Whatever is wrong with the file, its reader says so.
    except OSError:
        return False
