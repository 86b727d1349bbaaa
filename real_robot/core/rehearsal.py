"""One run of the arithmetic before it matters: what is slow the first time is slow here."""

from __future__ import annotations

import numpy as np

from .controller import Controller
from .controller_config import ControllerConfig
from .events import Mailbox, Mode, Request, RobotState
from .trajectory import Chunk

# Cycles that follow a chunk, and waypoints of it.
NUM_CYCLES, NUM_WAYPOINTS = 20, 16


def rehearse(config: ControllerConfig, pose: np.ndarray) -> Mode:
    """Arm a controller of its own in `pose`, follow a chunk, brake; in virtual time.

    Imports, caches and memory of a first call took up to 11 ms, in the cycle that armed the robot.

    Args:
        config: Of the controller that is to run.
        pose: Joint positions, shape (D,).

    Returns:
        The last mode, STOP.
    """
    controller, requests = Controller(config), {0: Request.ARM, NUM_CYCLES - 1: Request.STOP}
    way = np.linspace(pose, pose + 1e-3, NUM_WAYPOINTS)
    for cycle in range(NUM_CYCLES):
        now = cycle * config.dt
        state = RobotState(now, pose, np.zeros(len(pose)), "", np.zeros(0))
        times = now + config.dt * np.arange(1.0, NUM_WAYPOINTS + 1)
        chunk = Chunk(cycle, now, times, way) if cycle % 5 == 1 else None
        controller.step(now, state, Mailbox(chunk, requests.get(cycle, Request.NONE)))
    return controller.mode
