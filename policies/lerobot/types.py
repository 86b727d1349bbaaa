"""The table of LeRobot's types of policy that hotloop reads.

To add one: a module with a function from `Folder` and `Given` to a `Checkpoint`, and its line here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...decoding.plumbing.plugins import Registry
from ..checkpoint import Checkpoint
from .folder import CONFIG_FILE, Folder, open_folder
from .given import Given

TYPES: Registry[Callable[[Folder, Given], Checkpoint]] = Registry(
    "hotloop.lerobot_types",
    "LeRobot policy type",
    {
        "diffusion": "diffusion:read_diffusion",
        "act": "act:read_act",
        "hotloop": "plugin:read_plugin",
    },
    str(__package__),
)


def read_lerobot(path: Path, given: Given) -> Checkpoint:
    """Read the folder that `find_folder` found as a checkpoint of hotloop's own.

    Raises:
        OSError: If a file is missing.
        ValueError: If a file is damaged or not downloaded, the type or one of its choices is not
            supported, or something is not given that the folder does not hold.
    """
    folder = open_folder(path)
    if folder.type not in TYPES.names:
        raise ValueError(
            f"{path / CONFIG_FILE}: policies of type {folder.type!r} are not read; there are "
            f"{', '.join(TYPES.names)}"
        )
    return TYPES.get(folder.type)(folder, given)
