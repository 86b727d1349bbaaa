"""Which pictures of a dataset a policy reads, and whether they are of the form that it takes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ...decoding.interface import is_picture
from ...envs.task import Task
from .decode import Decoding, Step
from .episodes import Episodes
from .formats.registry import open_dataset, read_episodes
from .pictures import picture_axes
from .selection import Wanted
from .source import DatasetFile


def read_for_policy(
    source: str,
    keys: Mapping[str, str] | None,
    options: Mapping[str, Any],
    *,
    task: Task | None,
    cameras: Sequence[str] | None,
    instruction: bool = False,
    check: Callable[[Mapping[str, tuple[int, ...]]], object] = lambda shapes: None,
) -> Episodes:
    """Read demonstrations with the pictures that a policy reads.

    What is wrong with them is told before any is decoded; those that are left out are named in
    one warning.

    Args:
        source: As `read_episodes` has it, like the next two.
        keys: See there.
        options: See there.
        task: What is trained for; None for recordings of one's own robot.
        cameras: Observation keys of the pictures; None for all that dataset and task have.
        instruction: Read what the robot was asked to do.
        check: Given the shapes of the pictures, by key; raises ValueError if they do not suit.

    Raises:
        ValueError: If pictures are not there or of another form, naming key, expected and found.
    """
    seen = None if task is None else pictures_of(task)
    with open_dataset(source, options) as file:
        chosen = _choose(file, keys, seen, cameras)
        decoding = Decoding(file, file.select(keys, Wanted(tuple(chosen), instruction)))
        for key, step in decoding.steps.items():
            if key.startswith("observation."):
                _check_form(file, key, step, is_named=cameras is not None and key in cameras)
                if task is not None and step.is_picture:
                    _check_size(file, key, step, task)
        pictures = {key: step.shape for key, step in decoding.steps.items() if step.is_picture}
    check(pictures)
    return read_episodes(source, keys, options, pictures=chosen, instruction=instruction)


def _choose(
    file: DatasetFile,
    keys: Mapping[str, str] | None,
    seen: Sequence[str] | None,
    cameras: Sequence[str] | None,
) -> Sequence[str]:
    """Keys of the pictures that are read, of those that the task has seen: None for all."""
    there = file.picture_keys(keys)
    seen = there if seen is None else seen
    if cameras is None:
        chosen = [key for key in there if key in seen]
        if seen and not chosen:
            raise ValueError(
                f"{file.path}: there are no pictures {_listed(seen)}, which the task observes; the "
                f"dataset's are {_listed(there)}. Name columns with task.keys, or read none with "
                "policy.cameras=[]"
            )
        return chosen
    known = file.select(keys, Wanted(tuple(cameras)))
    for key in cameras:
        if key not in known:
            raise ValueError(
                f"{file.path}: policy.cameras names {key!r}, but the dataset's pictures are "
                f"{_listed(there)}; name others there, or a column with task.keys"
            )
        if key in there and key not in seen:
            raise ValueError(
                f"{file.path}: policy.cameras names {key!r}, but the pictures that the task "
                f"observes are {_listed(seen)}"
            )
    return cameras


def pictures_of(task: Task) -> list[str]:
    """Keys of the pictures that a task observes; raise ValueError for channels that come first."""
    for key, shape in task.observation_shapes.items():
        if not is_picture(shape) and picture_axes(shape, np.dtype(np.float32)) is not None:
            raise ValueError(
                f"task {task.name!r} declares {key!r} with the shape {tuple(shape)}; pictures are "
                "declared as height x width x 3 (red, green, blue)"
            )
    return [key for key, shape in task.observation_shapes.items() if is_picture(shape)]


def _check_form(file: DatasetFile, key: str, step: Step, *, is_named: bool) -> None:
    """Raise ValueError for pictures that are no bytes of red, green and blue, or else declared."""
    is_right = is_picture(step.shape) and step.dtype == np.uint8
    if (is_named or step.is_picture or is_picture(step.shape)) and not is_right:
        raise ValueError(
            f"{file.path}: {key!r} must hold pictures of bytes (uint8), height x width x 3 (red, "
            f"green, blue), found {step.dtype} of shape {step.shape}; convert them, or leave them "
            "out with policy.cameras=[KEY,...]"
        )
    declared = file.declared_picture(step.column)
    if is_right and declared is not None and declared != step.shape:
        raise ValueError(
            f"{file.path}: the pictures {key!r} are declared as {_size(declared)}, but the data is "
            f"{_size(step.shape)}; correct the declaration, or leave them out with "
            "policy.cameras=[KEY,...]"
        )


def _check_size(file: DatasetFile, key: str, step: Step, task: Task) -> None:
    expected = tuple(task.observation_shapes[key])
    if step.shape != expected:
        raise ValueError(
            f"{file.path}: the pictures {key!r} are {_size(step.shape)}, but those of "
            f"{task.name!r} {_size(expected)}; make the dataset's anew in that size"
        )


def _size(shape: Collection[int]) -> str:
    return " x ".join(str(size) for size in shape)


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys) or "none"
