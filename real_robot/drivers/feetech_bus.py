"""Feetech STS servos through their maker's SDK."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...decoding.plumbing.extras import require
from .sdk_bus import SdkBus


class FeetechBus(SdkBus):
    """Feetech STS servos through `feetech-servo-sdk`. They have no watchdog of their own."""

    family = "feetech"

    def __init__(self, port: str, ids: Sequence[int], baud: int, reply_timeout: float) -> None:
        sdk = require("scservo_sdk", "servo")
        super().__init__(sdk, port, ids, baud, reply_timeout)
        self.adopt(sdk.PacketHandler(0))
        self._reading = sdk.GroupSyncRead(self.port, self.packets, 56, 4)
        self._writing = sdk.GroupSyncWrite(self.port, self.packets, 42, 2)
        for number in ids:
            self._reading.addParam(number)

    @staticmethod
    def num_values(packet: Sequence[int]) -> int:
        """Bytes that an answer brings besides error and checksum."""
        return packet[3] - 2

    def look(self) -> None:
        """All servos are there, in position mode."""
        self.find()
        for number in self.ids:
            if (mode := self.get(number, 33)) != 0:
                raise ConnectionError(f"servo {number} is in mode {mode}, expected 0 (position)")

    def prepare(self) -> None:
        """Let servos answer at once."""
        self.set(7, 0)

    def torque(self, on: bool) -> None:
        """Switch all servos on or off."""
        self.set(40, int(on))

    def full_load(self, number: int) -> int:
        """What a servo's load register tells at its full torque."""
        return 1000

    def watchdog(self, seconds: float) -> None:
        """There is none to set: without new goals these servos hold the last one."""

    def read(self) -> tuple[list[int], list[float]]:
        """Position and velocity in one sync read."""
        self.check(self._reading.txRxPacket(), "sync read")
        ticks: list[int] = []
        velocities: list[float] = []
        for number in self.ids:
            ticks.append(self.sdk.SCS_TOHOST(self._reading.getData(number, 56, 2), 15))
            speed = self.sdk.SCS_TOHOST(self._reading.getData(number, 58, 2), 15)
            velocities.append(speed * 2 * math.pi / 4096)
        return ticks, velocities

    def write(self, ticks: Sequence[int]) -> None:
        """All goals in one sync write."""
        self._writing.clearParam()
        for number, value in zip(self.ids, ticks, strict=True):
            goal = self.sdk.SCS_TOSCS(value, 15)
            self._writing.addParam(number, [goal & 0xFF, goal >> 8])
        self.check(self._writing.txPacket(), "sync write")
