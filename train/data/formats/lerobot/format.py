"""LeRobotDataset v3.0 as a format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ...episodes import Episodes
from ...tasks import as_tasks
from ..format import Advance, Format
from .reader import LeRobotFile
from .write import write_lerobot_folder


class LeRobotFormat(Format):
    """A folder of LeRobot's; see `reader`."""

    name = "lerobot"
    description = "folder of a LeRobotDataset v3.0, with meta/info.json"
    keeps = frozenset({"terminated", "pictures"})
    parts = re.compile(
        r"meta/.*\.(json|jsonl|parquet)|data/.*\.parquet|videos/.*\.mp4|images/.*\.(png|jpg)"
        r"|README\.md|LICENSE|\.gitattributes"
    )
    is_writable = True

    def recognise(self, path: Path) -> bool:
        """By ``meta/info.json``."""
        return (path / "meta" / "info.json").is_file()

    def open(self, path: Path, options: Mapping[str, Any], resources: ExitStack) -> LeRobotFile:
        """Open a folder."""
        return LeRobotFile(path, options, resources)

    def write(self, partial: Path, episodes: Episodes, path: Path, advance: Advance) -> None:
        """Write a new folder; instructions become tasks."""
        del path
        write_lerobot_folder(partial, as_tasks(episodes), advance)


FORMAT = LeRobotFormat()
