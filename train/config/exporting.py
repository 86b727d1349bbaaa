"""Configuration of `hotloop export`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .checks import at_least
from .evaluation import explain_sampling
from .lerobot import LeRobotConfig


@dataclass(frozen=True)
class ExportConfig:
    """One export.

    Attributes:
        format: onnx, openvino, torch-export or tensorrt.
        sampling: Sampling choices of the checkpoint's kind, fixed in the graphs; what is not given
            stays as the checkpoint has it.
        lerobot: What a LeRobot folder does not hold, e.g. ``lerobot.dt=0.1``.
        steps: Control steps of the closed loop in which the graphs are compared with the
            checkpoint.
        overwrite: Whether an exported folder of that name is replaced.
    """

    format: str = "onnx"
    sampling: dict[str, Any] = field(default_factory=dict)
    lerobot: LeRobotConfig = field(default_factory=LeRobotConfig)
    steps: int = 200
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Reject numbers that are none."""
        at_least(1, steps=self.steps)

    @staticmethod
    def explain(key: str) -> str:
        """Say where a sampling choice is written, if `key` is one."""
        return explain_sampling(key)
