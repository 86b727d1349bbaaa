"""Episodes into a dataset of any format that can be written, completely or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ...decoding.plumbing.files import recover, replacing
from .episodes import Episodes
from .formats.format import Format
from .formats.registry import FORMATS, all_formats
from .overwrite import check_replaceable, check_source


@dataclass(frozen=True)
class WriteOptions:
    """What a dataset should say and episodes do not.

    Attributes:
        fps: Control frequency [Hz]; 0 leaves what the episodes' metadata say.
        task: What the robot was asked to do; by default what the metadata say.
    """

    fps: float = 0.0
    task: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError if the frequency is none."""
        if not 0 <= self.fps < float("inf"):
            raise ValueError(f"fps must be above 0, or 0 for what the source says, got {self.fps}")

    def applied(self, episodes: Episodes) -> Episodes:
        """The same episodes with these facts in their metadata."""
        facts, infos = dict(episodes.metadata), dict(episodes.infos)
        if self.fps:
            facts.pop("dt", None)
            facts["fps"] = int(self.fps) if float(self.fps).is_integer() else self.fps
        if self.task:
            infos.pop("task_index", None)
            facts["tasks"] = [self.task]
        return replace(episodes, metadata=facts, infos=infos)


def write_episodes(
    path: Path | str,
    episodes: Episodes,
    layout: str = "",
    options: WriteOptions | None = None,
    *,
    overwrite: bool = False,
    advance: Callable[[int], object] = lambda num_steps: None,
) -> Path:
    """Write `episodes`; when interrupted, whatever was at `path` stays as it was.

    Args:
        path: File or folder to create; for Minari, an id is a folder in `minari_folder`.
        episodes: What to write; their metadata becomes the dataset's provenance.
        layout: Name of a format, by default what the suffix of `path` says.
        options: What the dataset should say besides.
        overwrite: Replace an existing dataset; anything else is never replaced.
        advance: Told numbers of steps as they are written.

    Returns:
        Path of the dataset.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is false, or it is no dataset.
        ValueError: If `path` does not fit the format, or the format has no place for the data.
    """
    path, kind = check_target(path, layout, overwrite=overwrite)
    episodes = (options or WriteOptions()).applied(episodes)
    with _no_new_folders(path.parent), replacing(path) as partial:
        kind.write(partial, episodes, path, advance)
    return path


def writable_formats() -> dict[str, Format]:
    """Formats that can be written, by name."""
    return {name: kind for name, kind in all_formats().items() if kind.is_writable}


def check_target(
    path: Path | str, layout: str = "", *, overwrite: bool, source: Path | None = None
) -> tuple[Path, Format]:
    """Path and format of a dataset to write, or raise as `write_episodes` does.

    Args:
        path: File, folder or id.
        layout: Name of a format, or empty.
        overwrite: Whether a dataset that is there may be replaced.
        source: Dataset that is read meanwhile, which must not lose a file.
    """
    path, formats = Path(path), writable_formats()
    if not layout:
        ends = [name for name, kind in formats.items() if path.name.endswith(kind.suffixes or "\0")]
        # robomimic's files have D4RL's suffix.
        layout = "d4rl" if "d4rl" in ends else next(iter(ends), "")
    if not layout or (layout in FORMATS and not FORMATS.get(layout).is_writable):
        reason = "the name does not say which format to write"
        if layout:
            reason = f"datasets of {layout} are read, not written"
        raise ValueError(f"{path}: {reason}; name one of {', '.join(formats)}")
    kind = FORMATS.get(layout)
    path = kind.target(path)
    if not path.is_symlink():
        recover(path)
    if source is not None:
        check_source(path, source)
    if path.is_symlink():
        raise FileExistsError(f"{path}: is a link; give the path that it leads to")
    if path.exists():
        if not overwrite:
            raise FileExistsError(f"{path}: exists already; choose another name or overwrite it")
        check_replaceable(path, kind)
    return path, kind


@contextmanager
def _no_new_folders(folder: Path) -> Iterator[None]:
    """Context at whose failure the folders above a dataset that it made are removed again."""
    absent = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        yield
    except BaseException:
        for parent in absent:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise
