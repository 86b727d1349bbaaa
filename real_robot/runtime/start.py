"""Starting a process of a run, and what it is told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ...decoding.plumbing.processes import module_command
from ...decoding.plumbing.schema import build
from ..config import RobotConfig
from .channels import Channels, Sizes


@dataclass(frozen=True)
class Assignment:
    """What a process of a run works on.

    Attributes:
        robot: The robot.
        sizes: Layout of the channels.
        descriptors: The channels.
        extra: Whatever else this kind of process needs; JSON.
    """

    robot: RobotConfig
    sizes: Sizes
    descriptors: list[int]
    extra: Mapping[str, Any]

    def channels(self) -> Channels:
        """Attach to the channels."""
        return Channels(self.sizes, self.descriptors)


def start(
    module: str, robot: RobotConfig, channels: Channels, extra: Mapping[str, Any] | None = None
) -> subprocess.Popen[bytes]:
    """Start a module of this package as a process of its own.

    A fresh interpreter, not a fork: it imports what the module imports and nothing else, so the
    control process stays free of torch whatever the caller has loaded. Ctrl-C reaches the caller
    alone, who then stops the others in order.
    """
    assignment = {
        "robot": asdict(robot),
        "sizes": list(channels.sizes),
        "descriptors": channels.descriptors,
        "extra": dict(extra or {}),
    }
    return subprocess.Popen(
        module_command(f"{__package__}.{module}", json.dumps(assignment)),
        pass_fds=channels.descriptors,
        start_new_session=True,
    )


def receive() -> Assignment:
    """In the new process: what it was told."""
    assignment = json.loads(sys.argv[1])
    return Assignment(
        build(RobotConfig, assignment["robot"]),
        Sizes(*assignment["sizes"]),
        assignment["descriptors"],
        assignment["extra"],
    )
