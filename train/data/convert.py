"""Any dataset that can be read into any that can be written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from .decode import Allocate, Decoding
from .formats.registry import MAX_MEMORY, open_dataset
from .source import ReadOptions
from .write import WriteOptions, check_target, write_episodes

# What a format has no place for; everything else is kept.
NOT_KEPT = {"replay": ("final_observations",), "lerobot": ("final_observations",)}


@dataclass(frozen=True)
class Conversion:
    """Result of `convert_dataset`.

    Attributes:
        path: The new dataset.
        layout: Its format.
        num_episodes: Number of episodes E.
        num_steps: Number of steps T.
        dropped: Parts of the source that the format has no place for.
    """

    path: Path
    layout: str
    num_episodes: int
    num_steps: int
    dropped: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """Where a conversion goes.

    Attributes:
        path: File or folder, or Minari id.
        layout: One of `write.WRITABLE`; by default what the suffix of `path` says.
        options: What the format needs to know besides.
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
    options: ReadOptions | None = None,
    *,
    max_memory: int = MAX_MEMORY,
    progress: bool = False,
) -> Conversion:
    """Read a dataset and write it in another format.

    Observations, images, actions, rewards, infos, episode borders, how each episode ended and the
    provenance are kept; float64 observations become float32.

    Args:
        source: As in `read_episodes`.
        target: Where to.
        keys: As in `read_episodes`; by default everything that the source has.
        options: As in `read_episodes`.
        max_memory: Size [bytes] above which decoded data is kept in a folder beside the target
            until the conversion ends.
        progress: Show a progress bar on stderr.

    Raises:
        FileExistsError: If the target exists and is not to be overwritten.
        FileNotFoundError: If the source does not exist.
        ValueError: If the source is damaged, or the target's format has no place for its data.
    """
    from tqdm import tqdm

    path, layout = check_target(target.path, target.layout, overwrite=target.overwrite)
    with open_dataset(source, options) as file:
        decoding = Decoding(file, file.select(keys, everything=True))
        facts = {
            "converted_from": {"name": file.path.name, "layout": file.layout},
            "converted_by": f"hotloop {version('hotloop')}",
        }
        if keys:
            facts["columns"] = dict(keys)
        bar = tqdm(total=2 * decoding.num_steps, unit="step", disable=not progress)
        with bar, _scratch(path, decoding.num_bytes > max_memory) as allocate:
            bar.set_description("read")
            episodes = decoding.run(facts, allocate, bar.update)
            bar.set_description("write")
            write_episodes(
                path,
                episodes,
                layout,
                target.options,
                overwrite=target.overwrite,
                advance=bar.update,
            )
            dropped = tuple(name for name in NOT_KEPT.get(layout, ()) if getattr(episodes, name))
            return Conversion(path, layout, episodes.num_episodes, episodes.num_steps, dropped)


@contextmanager
def _scratch(path: Path, large: bool) -> Iterator[Allocate]:
    """Memory for decoded arrays or, for `large` ones, files in a folder that is then removed."""
    if not large:
        yield lambda key, shape, dtype: np.empty(shape, dtype)
        return
    # Named so that the next attempt removes what a killed one left, see `replacing`.
    folder = path.with_name(f".partial-{os.getpid()}-scratch-{path.name}")
    folder.mkdir(parents=True)
    names = iter(range(10**6))
    try:
        yield lambda key, shape, dtype: np.lib.format.open_memmap(
            folder / f"{next(names)}.npy", "w+", dtype=dtype, shape=shape
        )
    finally:
        shutil.rmtree(folder)
