"""All formats, and the front door to datasets: which format a path is of, and how it is read."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ....decoding.plumbing.files import lfs_message, recover
from ....decoding.plumbing.plugins import Registry
from ..cache import EpisodeCache
from ..columns import naming, require_path
from ..decode import Allocate, Decoding
from ..episodes import Episodes
from ..pointers import is_pointer
from ..selection import Wanted
from ..source import DatasetFile
from .format import Format

_LOG = logging.getLogger(__name__)
# Decoded data up to this size [bytes] stays in memory; more is decoded into a cache folder.
MAX_MEMORY = 2**29
MAX_PICTURES = 2**24  # the same where there are pictures, which take longer to decode

FORMATS: Registry[Format] = Registry(
    group="hotloop.formats",
    noun="format",
    included={
        "zarr": "zarr_buffer:FORMAT",
        "robomimic": "robomimic:FORMAT",
        "d4rl": "d4rl:FORMAT",
        "lerobot": "lerobot.format:FORMAT",
        "minari": "minari:FORMAT",
        "rlds": "rlds:FORMAT",
    },
    package=__package__ or "",
)


def all_formats() -> dict[str, Format]:
    """Every format that can be imported, by name; plugins that cannot are told in the log."""
    found: dict[str, Format] = {}
    for name in FORMATS.names:
        try:
            found[name] = FORMATS.get(name)
        except ImportError as error:
            if name not in FORMATS.plugins:
                raise
            _LOG.warning("%s", error)
    return found


def read_episodes(
    name: Path | str,
    keys: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    pictures: bool | Collection[str] = False,
    instruction: bool = False,
    everything: bool = False,
    max_memory: int = MAX_MEMORY,
) -> Episodes:
    """Read demonstrations from any known dataset.

    What is left out without being asked for, and what the dataset declares but does not hold, is
    told in the log.

    Args:
        name: Path of a dataset of any of `FORMATS`, or an id (``hopper-medium-v2``,
            ``D4RL/door/human-v2``) whose files are there.
        keys: From ``action``, ``reward``, ``observation.*`` and ``info.*`` to columns of the file
            or some of their features, e.g. ``{"observation.goal": "infos/goal", "action":
            "actions[0:3,5]", "observation.state": "observations[:2]"}``; or to one of these names,
            for what the format has under it by default. Default: as the format has it, without
            pictures, instructions and infos.
        options: What the file does not say itself, see `Format.options`.
        pictures: Without `keys`, read pictures too. Keys of pictures read these alone, also of
            those that `keys` names.
        instruction: Read what the robot was asked to do as ``observation.instruction``, also where
            the dataset has it as tasks.
        everything: Without `keys`, read all that the file has.
        max_memory: Size [bytes] above which arrays are memory-mapped from `cache_root`.

    Raises:
        FileNotFoundError: If there is no such file or id; names the nearest ones.
        ValueError: If the format is unknown, or the file is damaged or inconsistent.
    """
    path = find_dataset(name)
    chosen = pictures if isinstance(pictures, bool) else tuple(pictures)
    wanted = Wanted(chosen, instruction, everything)
    request = {"keys": dict(keys or {}), "options": dict(options or {}), "wanted": vars(wanted)}
    cache = EpisodeCache(path, request)
    if (episodes := cache.load()) is None:
        episodes = _read(path, keys, options, wanted, max_memory, cache)
    for note in episodes.notes:
        _LOG.warning("%s", note)
    return episodes


def _read(
    path: Path,
    keys: Mapping[str, str] | None,
    options: Mapping[str, Any] | None,
    wanted: Wanted,
    max_memory: int,
    cache: EpisodeCache,
) -> Episodes:
    from tqdm import tqdm

    facts = {"columns": dict(keys)} if keys else {}
    with open_dataset(path, options) as file:
        notes = [f"{path}: {text}" for text in file.absences()]
        if left_out := file.left_out(keys, wanted):
            notes.append(_left_out_message(path, file, left_out, wanted))
        decoding = Decoding(file, file.select(keys, wanted))

        def decode(allocate: Allocate, *advance: Callable[[int], object]) -> Episodes:
            return replace(decoding.run(facts, allocate, *advance), notes=tuple(notes))

        def decode_and_show(allocate: Allocate) -> Episodes:
            with tqdm(total=decoding.num_steps, desc=f"decode {path.name}", unit="step") as bar:
                return decode(allocate, bar.update)

        if any(step.is_picture for step in decoding.steps.values()):
            max_memory = min(max_memory, MAX_PICTURES)
        if decoding.num_bytes > max_memory:
            return cache.build(decode_and_show)
        return decode(lambda key, shape, dtype: np.empty(shape, dtype))


def _left_out_message(path: Path, file: DatasetFile, names: list[str], wanted: Wanted) -> str:
    pictures = [name for name in names if file.column(name).is_picture]
    others = [name for name in names if name not in pictures]
    parts = [f"the pictures of {', '.join(pictures)}"] if pictures else []
    parts += [f"the texts of {', '.join(others)}"] if others else []
    hint = "name columns with keys to read them"
    if not isinstance(wanted.pictures, bool):
        hint = "a policy reads pictures of its task, or those of policy.cameras"
    return f"{path}: {' and '.join(parts)} are left out; {hint}"


@contextmanager
def open_dataset(
    name: Path | str, options: Mapping[str, Any] | None = None
) -> Iterator[DatasetFile]:
    """Context of a dataset of which nothing is decoded yet; errors as in `read_episodes`."""
    path = find_dataset(name)
    with open_with(format_of(path), path, options) as file:
        yield file


@contextmanager
def open_with(
    kind: Format, path: Path, options: Mapping[str, Any] | None = None
) -> Iterator[DatasetFile]:
    """Context of a dataset of a known format; damage is told in one sentence.

    Raises:
        ValueError: If the file is damaged, also while it is used, naming it; or an option is wrong.
    """
    complete = kind.complete_options(options or {})
    with ExitStack() as resources, naming(path, "cannot be read"):
        with naming(path, "cannot be opened"):
            file = kind.open(path, complete, resources)
        yield file


def find_dataset(name: Path | str) -> Path:
    """Path of a dataset given by path or id; errors as in `read_episodes`."""
    text, path = str(name), recover(Path(name))
    if path.exists():
        return path
    formats = all_formats().values()
    for kind in formats:
        if (found := kind.locate(text)) is not None:
            return recover(found)
    known = [known for kind in formats for known in kind.ids()]
    nearest = difflib.get_close_matches(text, known, n=4, cutoff=0.5)
    if nearest and not path.suffix:
        raise FileNotFoundError(
            f"{text!r} is neither a file nor the id of a dataset that is there; nearest: "
            f"{', '.join(nearest)}"
        )
    return require_path(path)


def format_of(path: Path) -> Format:
    """The format of an existing file or folder; raise ValueError if it is none of `FORMATS`."""
    if is_pointer(path):
        raise ValueError(lfs_message(path))
    formats = all_formats()
    for kind in formats.values():
        if kind.recognise(path):
            return kind
    known = "; ".join(f"{name}: {kind.description}" for name, kind in formats.items())
    raise ValueError(f"{path}: not a dataset of a known format. These are known: {known}")
