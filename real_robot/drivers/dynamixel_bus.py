"""Dynamixel X servos through their maker's SDK."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...decoding.plumbing.extras import require
from .sdk_bus import SdkBus
from .servo_registers import REGISTERS

# XL430, XC430-W150 and -W240, 2XL430 and 2XC430 have no current sensor.
LOAD_MODELS = (1060, 1070, 1080, 1090, 1160)
CURRENT_LIMIT = 38


class DynamixelBus(SdkBus):
    """Dynamixel X servos through `dynamixel-sdk`, protocol 2.0, position mode."""

    family, refusal = "dynamixel", 0x7F

    def __init__(self, port: str, ids: Sequence[int], baud: int, reply_timeout: float) -> None:
        sdk = require("dynamixel_sdk", "servo")
        super().__init__(sdk, port, ids, baud, reply_timeout)
        self.adopt(sdk.PacketHandler(2.0))
        self._reading = sdk.GroupSyncRead(self.port, self.packets, 128, 8)
        self._writing = sdk.GroupSyncWrite(self.port, self.packets, 116, 4)
        for number in ids:
            self._reading.addParam(number)

    @staticmethod
    def num_values(packet: Sequence[int]) -> int:
        """Bytes that an answer brings besides instruction, error and checksum."""
        return packet[5] + (packet[6] << 8) - 4

    def look(self) -> None:
        """All servos are there, without a hardware error, in position mode."""
        self.find()
        for number in self.ids:
            if error := self.get(number, 70):
                raise ConnectionError(
                    f"servo {number} is in hardware error 0x{error:02x}; remove the cause and "
                    "reboot it"
                )
            if (mode := self.get(number, 11)) != 3:
                raise ConnectionError(
                    f"servo {number} is in operating mode {mode}, expected 3 (position)"
                )

    def prepare(self) -> None:
        """Clear a tripped watchdog, and let servos answer at once."""
        for number in self.ids:
            if self.get(number, 9) and not self.get(number, 64):
                # The factory setting of 0.5 ms per servo would take up the whole cycle.
                self.packets.write1ByteTxRx(self.port, number, 9, 0)
        self.set(98, 0)

    def torque(self, on: bool) -> None:
        """Switch all servos on or off."""
        self.set(64, int(on))

    def full_load(self, number: int) -> int:
        """What a servo's load register tells at its full torque."""
        table = REGISTERS[self.family]
        # Larger models tell their current there, which ends at a setting of theirs.
        tells_load = self.get(number, *table.model) in LOAD_MODELS
        return 1000 if tells_load else max(self.get(number, CURRENT_LIMIT, 2), 1)

    def watchdog(self, seconds: float) -> None:
        """Set the bus watchdog, in units of 20 ms."""
        self.set(98, min(math.ceil(seconds / 0.02), 127))

    def read(self) -> tuple[list[int], list[float]]:
        """Velocity and position in one sync read."""
        self.check(self._reading.txRxPacket(), "sync read")
        ticks: list[int] = []
        velocities: list[float] = []
        for number in self.ids:
            raw_velocity = self._reading.getData(number, 128, 4)
            raw_position = self._reading.getData(number, 132, 4)
            velocities.append(_signed32(raw_velocity) * 0.229 * 2 * math.pi / 60)
            ticks.append(_signed32(raw_position))
        return ticks, velocities

    def write(self, ticks: Sequence[int]) -> None:
        """All goals in one sync write."""
        self._writing.clearParam()
        for number, value in zip(self.ids, ticks, strict=True):
            self._writing.addParam(number, value.to_bytes(4, "little", signed=True))
        self.check(self._writing.txPacket(), "sync write")


def _signed32(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value
