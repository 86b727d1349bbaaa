"""What a run was begun with, kept beside it, so that nothing else is ever continued as that run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from ..decoding.plumbing.files import write_text
from ..policies.checkpoint import CONFIG_FILE, WEIGHTS_FILE, find_checkpoint
from ..policies.lerobot.folder import find_folder
from .config.training import TrainConfig
from .data.digest import arrays_digest
from .data.episodes import Episodes
from .state import STATE_FOLDER

RUN_FILE, LOG_FILE, CHECKPOINTS = "run.json", "log.csv", "checkpoints"
_LOCK_FILE = "run.lock"


def is_run(folder: Path) -> bool:
    """Whether a folder holds a training run, finished or not."""
    return (folder / RUN_FILE).is_file() or (folder / CHECKPOINTS).is_dir()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a run; None if it was ended before its first."""
    last = folder / CHECKPOINTS / "last"
    return last if (last / CONFIG_FILE).is_file() else None


def check_output(config: TrainConfig) -> None:
    """Raise an error unless the run folder is new, or a run that is to be continued.

    Raises:
        FileExistsError: If it holds a run that is not to be continued, or files that are no run's.
        FileNotFoundError: If there is nothing to continue.
    """
    folder = Path(config.output_dir)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"output_dir={folder} is a file; choose another output_dir")
    if config.resume:
        if not is_run(folder):
            raise FileNotFoundError(
                f"{folder} holds no training state, so it cannot be resumed; leave resume=true out "
                "to begin a run there"
            )
        last = last_checkpoint(folder)
        if last is not None and not (last / STATE_FOLDER).is_dir():
            raise FileNotFoundError(
                f"{last} holds no training state, so it cannot be resumed; begin a new run in "
                "another output_dir"
            )
        return
    if is_run(folder):
        raise FileExistsError(
            f"{folder} already holds a run; continue it with resume=true, or choose another "
            "output_dir"
        )
    if (folder / CONFIG_FILE).exists():
        raise FileExistsError(
            f"{folder} is a checkpoint, which everyone who names that folder would find instead of "
            "the run's; choose another output_dir"
        )
    if (folder / LOG_FILE).exists():
        raise FileExistsError(
            f"{folder / LOG_FILE} exists, but {folder} is no run, and training would overwrite "
            "it; choose another output_dir"
        )


@contextmanager
def run_folder(config: TrainConfig) -> Generator[Path, None, None]:
    """Context in which one process alone writes into the run folder, which is made.

    Between `check_output` and the first line that a run writes there may be hours of preparation,
    in which another run may have begun there.

    Raises:
        FileExistsError: If another process trains there, or as `check_output`.
    """
    from filelock import FileLock, Timeout

    folder = Path(config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(folder / _LOCK_FILE, timeout=0))
        except Timeout:
            raise FileExistsError(
                f"another process is training in {folder}; wait for its end, or choose another "
                "output_dir"
            ) from None
        except NotImplementedError:
            pass  # the file systems of some clusters have no locks
        check_output(config)
        yield folder


def settings_of(config: TrainConfig, episodes: Episodes) -> dict[str, Any]:
    """Everything that decides what a run becomes, JSON-able."""
    policy = asdict(cast("Any", config.policy))
    if not config.distill.teacher:
        del policy["sampling"]  # which changes nothing in training, unless it is distilled
    settings = {
        "policy": policy,
        "task": {"name": config.task.name},
        "dataset": content_hash(episodes),
        "optim": asdict(config.optim),
        "seed": config.seed,
        "batch_size": config.batch_size,
        "steps": config.steps,
        "precision": config.precision,
        "distill": None,
    }
    if config.distill.teacher:
        name = config.distill.teacher
        weights = (find_folder(Path(name)) or find_checkpoint(name)) / WEIGHTS_FILE
        teacher = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
        settings["distill"] = {**asdict(config.distill), "teacher": teacher}
    return json.loads(json.dumps(settings))


def content_hash(episodes: Episodes) -> str:
    """Digest of everything that a policy learns from: arrays by key, and episode borders."""
    arrays = {"action": episodes.actions, **episodes.observations}
    arrays |= {"ends": episodes.episode_ends, "terminated": episodes.terminated}
    if episodes.rewards is not None:
        arrays["reward"] = episodes.rewards
    return arrays_digest(arrays)


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write down what a run is begun with, or goes on with."""
    content = {"hotloop": version("hotloop"), "settings": settings}
    write_text(folder / RUN_FILE, json.dumps(content, indent=1) + "\n")


def check_same_run(folder: Path, settings: Mapping[str, Any], num_done: int) -> None:
    """Raise ValueError, naming each difference, if a run was begun with other settings.

    Args:
        folder: The run.
        settings: Those it is to go on with, see `settings_of`.
        num_done: Steps that it has done; it may go on for more steps than it was begun for.
    """
    begun = _stored(folder)
    different = [
        f"{name} was {_show(before)}, is {_show(now)}"
        for name, before, now in _differences(begun, settings)
        if name != "steps"
    ]
    if settings["steps"] < num_done:
        different.append(f"steps is {settings['steps']}, but {num_done} are done")
    if different:
        raise ValueError(
            f"{folder} cannot be resumed, it was begun with other settings: {'; '.join(different)}"
            ". Give it its own settings, or choose another output_dir"
        )


def _stored(folder: Path) -> dict[str, Any]:
    """Settings that a run was begun with; of one without them, what its checkpoint tells."""
    path = folder / RUN_FILE
    if path.is_file():
        try:
            return dict(json.loads(path.read_text())["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged ({type(error).__name__}: {error}), so nobody can tell what the "
                "run was begun with; begin a new one in another output_dir"
            ) from None
    checkpoint = json.loads((folder / CHECKPOINTS / "last" / CONFIG_FILE).read_text())
    told = checkpoint["provenance"]
    names = ("optim", "seed", "batch_size")
    stored = {name: told[name] for name in names if name in told}
    task = {"name": told["task"]} if "task" in told else {}
    return {**stored, "policy": {"kind": checkpoint["kind"]}, "task": task}


def _differences(begun: Any, now: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted names whose values differ, and both; what one of them does not have is left out."""
    if not (isinstance(begun, dict) and isinstance(now, dict)):
        if begun != now:
            yield prefix.removesuffix("."), begun, now
        return
    for name in begun:
        if name in now:
            yield from _differences(begun[name], now[name], f"{prefix}{name}.")


def _show(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
