"""Serial bus servos through the makers' own SDKs: Dynamixel X and Feetech STS."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from ..config import RobotConfig
from ..core.events import RobotState
from ..core.limits import Motion, Vector
from .driver import BusError, Clock, check_options
from .dynamixel_bus import DynamixelBus
from .feetech_bus import FeetechBus
from .sdk_bus import ServoProtocol
from .tracker import Tracker

PROTOCOLS = {"dynamixel": DynamixelBus, "feetech": FeetechBus}
TICKS = 4096 / (2 * np.pi)  # per radian


class ServoBusDriver:
    """An arm of servos on one serial bus.

    Args:
        config: Options: ``port``; ``ids``, one servo per joint; ``baud``; ``zero``, encoder count
            of each joint at 0 rad, 2048 by default; ``direction``, 1 or -1 per joint;
            ``reply_timeout`` [s], after which a missing answer fails the cycle; ``watchdog`` [s],
            after which Dynamixel servos stop by themselves if nobody talks to them;
            ``tracker``, UDP port on which a tracker sends what else is in the scene, and
            ``tracker_size``, how many numbers those are.
        monotonic: Clock [s].
    """

    clock: Clock = "host"

    def __init__(
        self, config: RobotConfig, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        options, joints = config.options, config.control.limits.num_joints
        check_options(
            options,
            {
                "port": str,
                "ids": (list, tuple),
                "baud": int,
                "zero": (list, tuple),
                "direction": (list, tuple),
                "reply_timeout": float,
                "watchdog": float,
                "tracker": int,
                "tracker_size": int,
            },
        )
        if "port" not in options:
            raise ValueError(
                f"driver {config.driver} needs the option port, e.g. "
                "robot.options.port=/dev/ttyUSB0"
            )
        self._ids: Sequence[int] = options.get("ids", range(1, joints + 1))
        self._zero = np.asarray(options.get("zero", [2048] * joints), np.float64)
        self._direction = np.asarray(options.get("direction", [1] * joints), np.float64)
        if not len(self._ids) == len(self._zero) == len(self._direction) == joints:
            raise ValueError(
                f"ids, zero and direction need one value for each of the {joints} joints, got "
                f"{len(self._ids)}, {len(self._zero)} and {len(self._direction)}"
            )
        if not np.isin(self._direction, (-1, 1)).all():
            raise ValueError(f"direction must be 1 or -1 per joint, got {self._direction}")
        self._watchdog = float(options.get("watchdog", 0.1))
        self._bus: ServoProtocol = PROTOCOLS[config.driver](
            options["port"],
            self._ids,
            options.get("baud", 1_000_000),
            float(options.get("reply_timeout", 0.01)),
        )
        self.num_sensors: int = options.get("tracker_size", 0)
        self._tracker = Tracker(options.get("tracker", 0), self.num_sensors)
        self._monotonic = monotonic

    def connect(self) -> None:
        """Find all servos, let them hold where they are, and set their watchdogs."""
        self._tracker.open()
        self._bus.open()
        self._bus.prepare()
        ticks, _ = self._bus.read()
        self._bus.write(ticks)
        self._bus.torque(True)
        self._bus.watchdog(self._watchdog)

    def read(self) -> RobotState:
        """One sync read; its time is the middle of the exchange."""
        began = self._monotonic()
        ticks, velocity = self._bus.read()
        middle = (began + self._monotonic()) / 2
        position: Vector = self._direction * (np.asarray(ticks) - self._zero) / TICKS
        fault = self._bus.fault()
        turned = self._direction * np.asarray(velocity)
        return RobotState(middle, position, turned, fault, self._tracker.newest())

    def write(self, motion: Motion) -> None:
        """One sync write."""
        ticks = np.rint(self._direction * motion.position * TICKS + self._zero)
        self._bus.write([int(value) for value in ticks])

    def disconnect(self, torque_off: bool) -> None:
        """Take back the watchdog, switch the torque off if asked to, close the port."""
        self._tracker.close()
        if not self._bus.is_open:
            return
        try:
            if torque_off:
                self._bus.torque(False)
            self._bus.watchdog(0.0)
        except BusError:
            # The bus is gone; the servos' own watchdog has to do.
            pass
        finally:
            self._bus.close()
