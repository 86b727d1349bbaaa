"""Any dataset that can be read into any that can be written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding.plumbing.files import scratch_folder
from .decode import Allocate, Decoding
from .episodes import Episodes
from .formats.format import Format
from .formats.registry import MAX_MEMORY, find_dataset, open_dataset
from .selection import Wanted
from .source import DatasetFile
from .write import WriteOptions, check_target, write_episodes


@dataclass(frozen=True)
class Conversion:
    """Result of `convert_dataset`.

    Attributes:
        path: The new dataset.
        layout: Its format.
        num_episodes: Number of episodes E.
        num_steps: Number of steps T.
        dropped: Parts of the source that the new dataset does not have.
        notes: What else the user should know of the source.
    """

    path: Path
    layout: str
    num_episodes: int
    num_steps: int
    dropped: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """Where a conversion goes.

    Attributes:
        path: File or folder, or Minari id.
        layout: Name of a format; by default what the suffix of `path` says.
        options: What the dataset should say besides.
        overwrite: Replace an existing dataset.
    """

    path: Path
    layout: str = ""
    options: WriteOptions | None = None
    overwrite: bool = False


def convert_dataset(
    source: Path | str,
    target: Target,
    keys: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    max_memory: int = MAX_MEMORY,
    progress: bool = False,
) -> Conversion:
    """Read a dataset and write it in another format.

    Observations, pictures, actions, rewards, infos, episode borders, how each episode ended, what
    the robot was asked to do and the provenance are kept; what is not is in the result.

    Args:
        source: As in `read_episodes`.
        target: Where to.
        keys: As in `read_episodes`; by default everything that the source has.
        options: As in `read_episodes`.
        max_memory: Size [bytes] above which decoded data is kept in a folder beside the target
            until the conversion ends.
        progress: Show a progress bar on stderr.

    Raises:
        FileExistsError: If the target exists and is not to be overwritten, or is no dataset.
        FileNotFoundError: If the source does not exist.
        ValueError: If the source is damaged or in the target's way, or the target's format has no
            place for its data.
    """
    from tqdm import tqdm

    found = find_dataset(source)
    path, kind = check_target(target.path, target.layout, overwrite=target.overwrite, source=found)
    with ExitStack() as resources:
        with open_dataset(found, options) as file:
            decoding = Decoding(file, file.select(keys, Wanted(everything=True)))
            total = 2 * decoding.num_steps
            bar = resources.enter_context(tqdm(total=total, unit="step", disable=not progress))
            allocate = resources.enter_context(_scratch(path, decoding.num_bytes > max_memory))
            bar.set_description("read")
            episodes = decoding.run(_provenance(file, keys), allocate, bar.update)
            dropped = tuple(_dropped(file, decoding, episodes, kind, is_all=not keys))
            notes = tuple([*episodes.faults, *file.absences(), *file.notes()])
        bar.set_description("write")
        write_episodes(
            target.path,
            episodes,
            target.layout,
            target.options,
            overwrite=target.overwrite,
            advance=bar.update,
        )
    return Conversion(path, kind.name, episodes.num_episodes, episodes.num_steps, dropped, notes)


def _provenance(file: DatasetFile, keys: Mapping[str, str] | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "converted_from": {"name": file.path.name, "layout": file.layout},
        "converted_by": f"hotloop {version('hotloop')}",
    }
    return facts | ({"columns": dict(keys)} if keys else {})


def _dropped(
    file: DatasetFile, decoding: Decoding, episodes: Episodes, kind: Format, *, is_all: bool
) -> Iterator[str]:
    """What the source has and the new dataset has not."""
    if is_all:
        told = {*decoding.columns, *file.bookkeeping, file.task_column}
        unread = [name for name in file.names if name not in told]
        yield from dict.fromkeys([*file.losses(), *unread])
    if episodes.final_observations is not None and "final_observations" not in kind.keeps:
        yield "final_observations, what was seen after the last action of each episode"
    if "terminated" not in kind.keeps and episodes.terminated.any():
        yield "terminated, how episodes ended"
    if "texts" not in kind.keeps:
        yield from (f"{name} of each episode" for name in episodes.texts)
    if rounded := decoding.rounded:
        yield f"digits beyond single precision of {', '.join(rounded)}"


@contextmanager
def _scratch(path: Path, large: bool) -> Iterator[Allocate]:
    """Memory for decoded arrays or, for `large` ones, files in a folder that is then removed."""
    if not large:
        yield lambda key, shape, dtype: np.empty(shape, dtype)
        return
    names = iter(range(10**6))
    with scratch_folder(path) as folder:
        yield lambda key, shape, dtype: np.lib.format.open_memmap(
            folder / f"{next(names)}.npy", "w+", dtype=dtype, shape=shape
        )
