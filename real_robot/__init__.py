"""The control loop of a real robot: high frequency, safe by default, without torch.

`core` is the loop as arithmetic in virtual time, `runtime` the processes around it, `drivers` what
moves a robot, `emulator` robots in software, `logs` what is left of a run,
`policies` what plans.
"""

from .config import ControlConfig, PolicyOptions, RobotConfig
from .core.controller import Controller, ControllerConfig
from .core.events import Mailbox, Mode, Output, Request, RobotState
from .core.limits import Chain, Limits, Motion, Workspace
from .core.stitcher import StitchConfig
from .core.trajectory import Chunk, ChunkRules
from .policies.protocol import PolicyKind, RobotPolicy, Snapshot

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
    "PolicyKind",
    "PolicyOptions",
    "Request",
    "RobotConfig",
    "RobotPolicy",
    "RobotState",
    "Snapshot",
    "StitchConfig",
    "Workspace",
]
