"""A recorded robot: measurements come from a log, commands go nowhere.

For running a policy and the whole loop beside what really happened, without moving anything.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

from ..config import RobotConfig
from ..core.events import RobotState
from ..core.limits import Motion
from ..logs.reader import logged_state, read_log
from .driver import Clock, check_options


class PlaybackDriver:
    """Plays a log's measurements in real time, and stays at the last one.

    Args:
        config: Options: ``log``, an MCAP file of `hotloop control`.
        monotonic: Clock [s].
    """

    clock: Clock = "host"

    def __init__(
        self, config: RobotConfig, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        check_options(config.options, {"log": str})
        if "log" not in config.options:
            raise ValueError(
                "driver playback needs the option log, e.g. robot.options.log=log.mcap"
            )
        log = read_log(Path(config.options["log"]))
        joints = config.control.limits.num_joints
        if log.robot.control.limits.num_joints != joints or not log.cycles:
            raise ValueError(
                f"{config.options['log']} holds {len(log.cycles)} cycles of a robot with "
                f"{log.robot.control.limits.num_joints} joints, expected some of {joints} joints"
            )
        self._states = [logged_state(cycle) for cycle in log.cycles]
        first = self._states[0].time
        self._times = [state.time - first for state in self._states]
        self.num_sensors: int = len(self._states[0].sensors)
        self._monotonic, self._begin = monotonic, 0.0

    def connect(self) -> None:
        """Start from the beginning."""
        self._begin = self._monotonic()

    def read(self) -> RobotState:
        """The measurement that was the newest this long after the beginning."""
        now = self._monotonic()
        index = max(bisect_right(self._times, now - self._begin) - 1, 0)
        state = self._states[index]
        return RobotState(now, state.position, state.velocity, "", state.sensors)

    def write(self, motion: Motion) -> None:
        """Nothing moves."""

    def disconnect(self, torque_off: bool) -> None:
        """Nothing to close."""
