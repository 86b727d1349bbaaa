"""A first run of everything that a cycle computes, before there is a robot to keep waiting.

What is imported, allocated and cached on first use took 17 ms at the moment of arming, in which
no command was sent.
"""

from __future__ import annotations

import numpy as np

from ..config import RobotConfig
from ..core.controller import Controller
from ..core.events import Mailbox, Request, RobotState
from ..core.limits import Vector
from ..core.trajectory import Chunk
from .channels import Sizes
from .packing import CyclePacker, StatePacker

NUM_CYCLES = 40
SHARE = 0.01  # of its range that each joint moves


def rehearse(robot: RobotConfig, sizes: Sizes) -> None:
    """Arm, follow a chunk and stop, with a controller that is thrown away.

    Args:
        robot: The robot, which is not touched.
        sizes: Layout of its records.
    """
    controller, dt = Controller(robot.control), robot.control.dt
    bounds = robot.control.limits.arrays
    low, high = np.asarray(bounds.low), np.asarray(bounds.high)
    start = (low + high) / 2
    still, sensors = np.zeros(sizes.num_joints), np.zeros(sizes.num_sensors)
    pack_state, pack_cycle = StatePacker(sizes).pack, CyclePacker(sizes).pack
    for cycle in range(NUM_CYCLES):
        now = 1.0 + cycle * dt
        mailbox = Mailbox()
        if cycle == 0:
            mailbox = Mailbox(request=Request.ARM)
        elif cycle in (1, NUM_CYCLES // 2):
            times: Vector = now + max(4 * dt, 0.02) * np.arange(1.0, 5.0)
            waypoints = start + SHARE * (high - low) * np.linspace(0, 1, 4)[:, None]
            mailbox = Mailbox(Chunk(cycle, now, times, waypoints))
        elif cycle == NUM_CYCLES - 5:
            mailbox = Mailbox(request=Request.STOP)
        state = RobotState(now, start, still, "", sensors)
        output = controller.step(now, state, mailbox)
        pack_cycle((now, now, now), mailbox, pack_state(state), output)
