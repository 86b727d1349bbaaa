"""Episodes into a dataset of any format that can be written, completely or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...decoding.plumbing.files import replacing
from .episodes import Episodes
from .formats.d4rl import D4RL_SUFFIXES, write_d4rl_file
from .formats.diffusion_policy import write_replay_file
from .formats.lerobot_write import write_lerobot_folder
from .formats.minari import minari_folder, write_minari_folder
from .formats.robomimic import write_robomimic_file

# Format to the suffixes of its files; folders without a suffix belong to the last two.
WRITABLE: dict[str, tuple[str, ...]] = {
    "d4rl": D4RL_SUFFIXES,
    "robomimic": D4RL_SUFFIXES,
    "replay": (".zarr", ".zarr.zip"),
    "lerobot": (),
    "minari": (),
}


@dataclass(frozen=True)
class WriteOptions:
    """What a format needs to know and episodes do not say.

    Attributes:
        fps: LeRobot: control frequency [Hz]; 0 takes it from the episodes' metadata.
        task: LeRobot: what the robot was asked to do; by default the metadata's task.
    """

    fps: float = 0.0
    task: str = ""


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
        layout: One of `WRITABLE`, by default what the suffix of `path` says.
        options: What the format needs to know besides.
        overwrite: Replace an existing file or folder.
        advance: Told numbers of steps as they are written.

    Returns:
        Path of the dataset.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is false.
        ValueError: If `path` does not fit the format, or the format has no place for the data.
    """
    path, layout = check_target(path, layout, overwrite=overwrite)
    options = options or WriteOptions()
    with replacing(path) as partial:
        if layout == "d4rl":
            write_d4rl_file(partial, episodes, advance)
        elif layout == "robomimic":
            write_robomimic_file(partial, episodes, advance)
        elif layout == "replay":
            write_replay_file(partial, episodes, advance)
        elif layout == "lerobot":
            fps, tasks = options.fps or _fps(episodes), _tasks(episodes, options.task)
            write_lerobot_folder(partial, episodes, fps, tasks, advance)
        else:
            write_minari_folder(partial, episodes, minari_id(path), advance)
    return path


def check_target(path: Path | str, layout: str = "", *, overwrite: bool) -> tuple[Path, str]:
    """Path and format of a dataset to write, or raise as `write_episodes` does."""
    path = Path(path)
    layout = layout or next((name for name in WRITABLE if path.name.endswith(WRITABLE[name])), "")
    if layout not in WRITABLE:
        raise ValueError(
            f"{path}: the name does not say which format to write; name one of "
            f"{', '.join(WRITABLE)}"
        )
    if WRITABLE[layout] and not path.name.endswith(WRITABLE[layout]):
        raise ValueError(
            f"{path}: a {layout} dataset must end in {' or '.join(WRITABLE[layout])}, "
            f"got {path.suffix!r}"
        )
    if layout == "minari" and not path.is_absolute() and not str(path).startswith("."):
        path = minari_folder() / path
    if layout == "minari" and not re.search(r"-v\d+$", path.name):
        raise ValueError(f"{path}: the name of a Minari dataset ends in its version, e.g. '-v0'")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: exists already; choose another name or overwrite it")
    return path, layout


def minari_id(path: Path) -> str:
    """Id of the Minari dataset at `path`: where it is in `minari_folder`, else its name."""
    root = minari_folder().resolve()
    path = path.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _fps(episodes: Episodes) -> float:
    facts = episodes.metadata
    stated = facts.get("fps") or facts.get("env_args", {}).get("env_kwargs", {}).get("control_freq")
    if stated:
        return float(stated)
    if period := facts.get("dt"):
        return 1 / float(period)
    raise ValueError(
        "a LeRobotDataset states its frame rate, and the source does not say it; give fps"
    )


def _tasks(episodes: Episodes, task: str) -> list[str]:
    """Texts by task index: `task` for all episodes, or what the metadata says."""
    facts = episodes.metadata
    tasks = [task] if task else facts.get("tasks") or [facts.get("task") or "unknown"]
    index = episodes.infos.get("task_index")
    if not task and index is not None and not ((index >= 0) & (index < len(tasks))).all():
        raise ValueError(
            f"infos['task_index'] must be one of the {len(tasks)} tasks of the metadata, found "
            f"{int(index.min())} to {int(index.max())}"
        )
    if not task and index is None and len(tasks) > 1:
        raise ValueError(
            f"the source has {len(tasks)} tasks, but no infos['task_index'] to say which at each "
            "step; read it as well, or give one task for all"
        )
    return [str(text) for text in tasks]
