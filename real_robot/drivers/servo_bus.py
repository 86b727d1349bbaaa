"""Serial bus servos through the makers' own SDKs: Dynamixel X and Feetech STS."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ..config import RobotConfig
from ..core.events import RobotState
from ..core.limits import Motion, Vector
from .driver import BusError, Clock
from .dynamixel_bus import DynamixelBus
from .feetech_bus import FeetechBus
from .sdk_bus import ServoProtocol
from .servo_options import TICKS, servo_options
from .tracker import Tracker

PROTOCOLS = {"dynamixel": DynamixelBus, "feetech": FeetechBus}


class ServoBusDriver:
    """An arm of servos on one serial bus.

    Args:
        config: Its options are those of `ServoOptions`.
        monotonic: Clock [s].
    """

    clock: Clock = "host"

    def __init__(
        self, config: RobotConfig, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        options = servo_options(config)
        self._zero, self._direction = options.zero, options.direction
        self._watchdog = options.watchdog
        self._bus: ServoProtocol = PROTOCOLS[config.driver](
            options.port, options.ids, options.baud, options.reply_timeout
        )
        self.num_sensors: int = options.tracker_size
        self._tracker = Tracker(
            options.tracker, options.tracker_size, options.tracker_timeout, monotonic
        )
        self._monotonic = monotonic
        self._engaged = False

    def inspect(self) -> None:
        """Find all servos and the tracker, and ask how they are; nothing is written to them."""
        if not self._bus.is_open:
            self._bus.open()
            self._bus.look()
        # A policy that does not see the scene must not move: the arm is left alone until it does.
        self._tracker.open()
        self._tracker.wait()

    def connect(self) -> None:
        """Find all servos, let them hold where they are, and set their watchdogs."""
        self.inspect()
        self._engaged = True
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
        sensors = self._tracker.newest()
        fault = self._bus.fault() or self._tracker.fault()
        turned = self._direction * np.asarray(velocity)
        return RobotState(middle, position, turned, fault, sensors)

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
            if self._engaged:
                self._bus.watchdog(0.0)
        except BusError:
            # The bus is gone; the servos' own watchdog has to do.
            pass
        finally:
            self._engaged = False
            self._bus.close()
