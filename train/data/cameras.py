"""Which pictures of a dataset a policy reads, and whether they are of the form that it takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ...decoding.interface import is_picture
from ...envs.task import Task
from .episodes import Episodes
from .formats.registry import picture_keys, read_episodes


def read_for_policy(
    source: str,
    keys: Mapping[str, str] | None,
    options: Mapping[str, Any],
    *,
    task: Task | None,
    cameras: Collection[str] | None,
    instruction: bool = False,
) -> Episodes:
    """Read demonstrations with the pictures that a policy reads.

    The dataset's other pictures are named in one warning.

    Args:
        source: Dataset, `keys` and `options`: as `read_episodes` has them.
        keys: As above.
        options: As above.
        task: What is trained for; None for recordings of one's own robot.
        cameras: Observation keys of the pictures; None for all that dataset and task have.
        instruction: Read what the robot was asked to do.

    Raises:
        ValueError: If a picture is not there or of another form, naming its key.
    """
    chosen = cameras
    if task is not None:
        seen = [key for key, shape in task.observation_shapes.items() if is_picture(shape)]
        chosen = seen if cameras is None else _checked(cameras, task, seen)
    if chosen is None:
        chosen = picture_keys(source, keys, options)
    episodes = read_episodes(source, keys, options, pictures=chosen, instruction=instruction)
    absent = [key for key in chosen if key not in episodes.observations]
    if absent and (cameras or len(absent) == len(chosen)):
        _refuse_absent(source, absent, picture_keys(source, keys, options))
    _check_form(episodes, cameras or ())
    return episodes


def _checked(cameras: Collection[str], task: Task, seen: Sequence[str]) -> Collection[str]:
    if unknown := [key for key in cameras if key not in seen]:
        raise ValueError(
            f"policy.cameras names {unknown[0]!r}, but the pictures of {task.name!r} are "
            f"{', '.join(seen) or 'none'}"
        )
    return cameras


def _refuse_absent(source: str, absent: Sequence[str], found: Sequence[str]) -> None:
    raise ValueError(
        f"{source} has no pictures {absent[0]!r}, its pictures are {', '.join(found) or 'none'}; "
        "name a column with task.keys, choose others with policy.cameras, or choose a task without "
        "pictures"
    )


def _check_form(episodes: Episodes, cameras: Collection[str]) -> None:
    """Raise ValueError for what would be taken for pictures and is none, or the reverse."""
    for key, array in episodes.observations.items():
        shape, is_bytes = array.shape[1:], array.dtype == np.uint8
        looks = is_picture(shape)
        wanted = key in cameras or looks or (is_bytes and len(shape) > 1)
        if wanted and not (looks and is_bytes):
            raise ValueError(
                f"{episodes.metadata.get('source', 'the dataset')}: {key!r} must hold pictures of "
                f"bytes (uint8), height x width x 3 (red, green, blue), found {array.dtype} of "
                f"shape {shape}; convert them, or leave them out with policy.cameras=[KEY,...]"
            )
