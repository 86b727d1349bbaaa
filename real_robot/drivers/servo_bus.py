"""Serial bus servos through the makers' own SDKs: Dynamixel X and Feetech STS."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np

from ..config import RobotConfig
from ..core.events import RobotState
from ..core.limits import Motion, Vector
from .driver import BusError, Clock
from .dynamixel_bus import DynamixelBus
from .feetech_bus import FeetechBus
from .sdk_bus import ATTEMPTS, ServoProtocol
from .servo_options import TICKS, servo_options, watch_turns
from .servo_registers import REGISTERS
from .servo_watch import ServoWatch, WatchRules
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
        self._watchdog, self._torque_limit = options.watchdog, options.torque_limit
        self._bus: ServoProtocol = PROTOCOLS[config.driver](
            options.port, options.ids, options.baud, options.reply_timeout
        )
        self.num_sensors: int = options.tracker_size
        self._tracker = Tracker(
            options.tracker, options.tracker_size, options.tracker_timeout, monotonic
        )
        self._watch = ServoWatch(
            self._bus,
            REGISTERS[config.driver],
            [(number, config.joint_name(joint)) for joint, number in enumerate(options.ids)],
            WatchRules(
                options.load_limit, options.load_time, options.torque_limit, options.watchdog > 0
            ),
            monotonic,
        )
        self._turns = watch_turns(config, options)
        self._monotonic = monotonic
        self._looked = self._engaged = False
        self._cycle = 0
        self._measured: RobotState | None = None

    def inspect(self) -> None:
        """Find all servos and the tracker, and ask how they are; nothing is written to them."""
        if not self._bus.is_open:
            self._bus.open()
        if not self._looked:
            self._bus.look()
            self._looked = True
        # A policy that does not see the scene must not move: the arm is left alone until it does.
        self._tracker.open()
        self._tracker.wait()

    def connect(self) -> None:
        """Find all servos, let them hold where they are, and set their watchdogs."""
        self.inspect()
        self._engaged = True
        self._bus.prepare()
        self._bus.limit_torque(self._torque_limit)
        self._watch.start()
        self._bus.write(self._found())
        self._bus.torque(True)
        self._bus.watchdog(self._watchdog)

    def _found(self) -> list[int]:
        """Where the joints are [encoder counts]; one lost answer must not keep an arm away."""
        for _ in range(ATTEMPTS - 1):
            with suppress(BusError):
                return self._bus.read()[0]
        return self._bus.read()[0]

    def read(self) -> RobotState:
        """One sync read; its time is the middle of the exchange.

        While the servos are engaged they are also asked, in turn, how they are. Where the wire has
        no room for both, the state is the previous one then, with the time of its measurement.
        """
        self._cycle += 1
        due = self._engaged and self._cycle % self._turns.every == 0
        if due and not self._turns.beside and self._measured is not None:
            if failure := self._watch.turn():
                raise BusError(failure)
            return replace(self._measured, fault=self._fault())
        self._measured = self._measure()
        if due:
            self._watch.turn()
        return replace(self._measured, fault=self._fault())

    def _measure(self) -> RobotState:
        began = self._monotonic()
        ticks, velocity = self._bus.read()
        middle = (began + self._monotonic()) / 2
        position: Vector = self._direction * (np.asarray(ticks) - self._zero) / TICKS
        turned = self._direction * np.asarray(velocity)
        return RobotState(middle, position, turned, "", self._tracker.newest())

    def _fault(self) -> str:
        return self._watch.fault() or self._tracker.fault()

    def write(self, motion: Motion) -> None:
        """One sync write."""
        ticks = np.rint(self._direction * motion.position * TICKS + self._zero)
        self._bus.write([int(value) for value in ticks])

    def disconnect(self, torque_off: bool) -> None:
        """Take back the watchdog, switch the torque off if asked to, close the port.

        Raises:
            BusError: After all of that, if a servo did not confirm that its torque is off.
        """
        self._tracker.close()
        if not self._bus.is_open:
            return
        stiff = ""
        try:
            # Each servo and each step by itself: one that fails keeps nothing from the others.
            if torque_off:
                try:
                    self._bus.torque(False)
                except BusError as error:
                    stiff = f"not every servo confirmed that its torque is off: {error}"
            if self._engaged:
                # If the bus is gone, the servos' own watchdog has to do.
                with suppress(BusError):
                    self._bus.watchdog(0.0)
        finally:
            self._looked = self._engaged = False
            self._measured = None
            self._bus.close()
        if stiff:
            raise BusError(stiff)
