"""Configuration of `hotloop import`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...policies.vla.openvla.choices import OpenVlaChoices
from .lerobot import LeRobotConfig


@dataclass(frozen=True)
class ImportConfig(LeRobotConfig):
    """One import of a LeRobot checkpoint, or of an OpenVLA folder.

    Attributes:
        task: Simulator that the policy is for, so that `hotloop eval` finds it; its period is that
            of the actions, unless `dt` or `dataset` says otherwise.
        check: Whether to compare actions with an installed LeRobot's.
        overwrite: Whether to replace a checkpoint that is there.
        openvla: What an OpenVLA folder does not say.
    """

    task: str = ""
    check: bool = False
    overwrite: bool = False
    openvla: OpenVlaChoices = field(default_factory=OpenVlaChoices)
