"""The control loop of a real robot: high frequency, safe by default, without torch.

`core` is the loop as arithmetic in virtual time, `runtime` the processes around it, `drivers` what
moves a robot, `emulator` robots in software, `logs` what is left of a run.
"""

from .config import ControlConfig, RobotConfig
from .core.controller import Controller, ControllerConfig
from .core.events import Mailbox, Mode, Output, Request, RobotState
from .core.limits import Chain, Limits, Motion, Workspace
from .core.stitcher import StitchConfig
from .core.trajectory import Chunk, ChunkRules
from .inference import Plan, RobotPolicy, Snapshot
from .strategies import SynchronousPolicy

__all__ = [
    "Chain",
    "Chunk",
    "ChunkRules",
    "ControlConfig",
    "Controller",
    "ControllerConfig",
    "Limits",
    "Mailbox",
    "Mode",
    "Motion",
    "Output",
    "Plan",
    "Request",
    "RobotConfig",
    "RobotPolicy",
    "RobotState",
    "Snapshot",
    "StitchConfig",
    "SynchronousPolicy",
    "Workspace",
]
