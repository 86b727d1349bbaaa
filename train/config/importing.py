"""Configuration of `hotloop import`."""

from __future__ import annotations

from dataclasses import dataclass

from .lerobot import LeRobotConfig


@dataclass(frozen=True)
class ImportConfig(LeRobotConfig):
    """One import of a LeRobot checkpoint.

    Attributes:
        task: Simulator that the policy is for, so that `hotloop eval` finds it; its period is that
            of the actions, unless `dt` or `dataset` says otherwise.
        check: Whether to compare actions with an installed LeRobot's.
        overwrite: Whether to replace a checkpoint that is there.
    """

    task: str = ""
    check: bool = False
    overwrite: bool = False
