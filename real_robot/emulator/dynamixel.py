"""Dynamixel X servos speaking protocol 2.0, as ROBOTIS documents it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from .plant import Plant
from .servos import Servos

HEADER = b"\xff\xff\xfd\x00"
BROADCAST = 0xFE
PING, READ, WRITE, REBOOT, STATUS = 0x01, 0x02, 0x03, 0x08, 0x55
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ = 0x82, 0x83, 0x8A
INSTRUCTION_ERROR, RANGE_ERROR, ACCESS_ERROR, ALERT = 2, 4, 7, 0x80
MODEL = 1060  # XL430-W250
FIRMWARE = 46
# Registers of the X series: address, and size in bytes.
MODEL_NUMBER, ID, RETURN_DELAY, OPERATING_MODE, TORQUE = 0, 7, 9, 11, 64
HARDWARE_ERROR, BUS_WATCHDOG, GOAL, VELOCITY, POSITION = 70, 98, 116, 128, 132
TABLE_SIZE = 147
EEPROM = range(64)
VELOCITY_UNIT = 0.229 * 2 * 3.141592653589793 / 60  # [rad/s]
WATCHDOG_UNIT = 0.02  # [s]
TRIGGERED = 0xFF


def crc16(data: bytes) -> int:
    """CRC-16 with polynomial 0x8005, as protocol 2.0 uses it."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x8005 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


CRC_TABLE = tuple(crc16(bytes([value])) for value in range(256))


def fast_crc16(data: bytes) -> int:
    """`crc16` by table."""
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ CRC_TABLE[crc >> 8 ^ byte]
    return crc


def stuff(payload: bytes) -> bytes:
    """Break up what looks like a header."""
    return payload.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")


def unstuff(payload: bytes) -> bytes:
    """Undo `stuff`."""
    return payload.replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")


def make_packet(number: int, instruction: int, parameters: bytes) -> bytes:
    """A packet with its checksum."""
    body = stuff(bytes([instruction]) + parameters)
    packet = HEADER + bytes([number]) + (len(body) + 2).to_bytes(2, "little") + body
    return packet + fast_crc16(packet).to_bytes(2, "little")


class DynamixelServos(Servos):
    """The servos of one bus: packets in, status packets out.

    The bus watchdog is that of the X series: when it is set and no packet comes for that long,
    the servo stops where it is and refuses new goals until the watchdog is written as 0.
    """

    def __init__(self, plant: Plant, ids: Sequence[int]) -> None:
        super().__init__(plant, ids)
        self.tables = {number: self._factory_settings(number) for number in ids}
        self._heard = 0.0

    @staticmethod
    def _factory_settings(number: int) -> bytearray:
        table = bytearray(TABLE_SIZE)
        table[MODEL_NUMBER : MODEL_NUMBER + 2] = MODEL.to_bytes(2, "little")
        table[6], table[ID], table[OPERATING_MODE] = FIRMWARE, number, 3
        table[RETURN_DELAY] = 250
        return table

    @staticmethod
    def split(buffer: bytearray) -> list[bytes]:
        """Take complete packets out of a buffer, dropping noise before a header."""
        packets: list[bytes] = []
        while (start := buffer.find(HEADER)) >= 0:
            del buffer[:start]
            if len(buffer) < 7:
                break
            size = 7 + int.from_bytes(buffer[5:7], "little")
            if len(buffer) < size:
                break
            packets.append(bytes(buffer[:size]))
            del buffer[:size]
        return packets

    def watch(self, now: float) -> None:
        """Let expired bus watchdogs stop their servos."""
        for number, table in self.tables.items():
            timeout = table[BUS_WATCHDOG] * WATCHDOG_UNIT
            if 0 < table[BUS_WATCHDOG] < 128 and now - self._heard > timeout:
                table[BUS_WATCHDOG] = TRIGGERED
                self.hold(number)

    def return_delay(self, number: int) -> float:
        """Pause of a servo before its answer [s]."""
        return self.tables[number][RETURN_DELAY] * 2e-6

    def handle(self, packet: bytes, now: float) -> list[tuple[int, bytes]]:
        """Act on a packet and return who answers what, in order."""
        if fast_crc16(packet[:-2]) != int.from_bytes(packet[-2:], "little"):
            return []
        self._heard = now
        number, body = packet[4], unstuff(packet[7:-2])
        instruction, parameters = body[0], body[1:]
        everyone = list(self.tables) if number == BROADCAST else [number]
        present = [one for one in everyone if one in self.tables]
        if instruction == PING:
            reply = MODEL.to_bytes(2, "little") + bytes([FIRMWARE])
            return [(one, self._status(one, reply)) for one in present]
        if instruction in (SYNC_READ, FAST_SYNC_READ):
            return self._sync_read(parameters, instruction == FAST_SYNC_READ)
        if instruction == SYNC_WRITE:
            self._sync_write(parameters)
            return []
        answers: list[tuple[int, bytes]] = []
        for one in present:
            answer = self._single(one, instruction, parameters)
            if number != BROADCAST:
                answers.append((one, answer))
        return answers

    def _status(self, number: int, parameters: bytes, error: int = 0) -> bytes:
        alert = ALERT if self.tables[number][HARDWARE_ERROR] else 0
        return make_packet(number, STATUS, bytes([error | alert]) + parameters)

    def _single(self, number: int, instruction: int, parameters: bytes) -> bytes:
        if instruction == READ and len(parameters) == 4:
            address, size = (
                int.from_bytes(part, "little") for part in (parameters[:2], parameters[2:])
            )
            return self._status(number, self._read(number, address, size))
        if instruction == WRITE and len(parameters) >= 3:
            address = int.from_bytes(parameters[:2], "little")
            return self._status(number, b"", self._write(number, address, parameters[2:]))
        if instruction == REBOOT:
            self.tables[number][HARDWARE_ERROR] = self.tables[number][TORQUE] = 0
            self.power(number, False)
            return self._status(number, b"")
        return self._status(number, b"", INSTRUCTION_ERROR)

    def _sync_read(self, parameters: bytes, fast: bool) -> list[tuple[int, bytes]]:
        address, size = (int.from_bytes(parameters[i : i + 2], "little") for i in (0, 2))
        ids = [number for number in parameters[4:] if number in self.tables]
        if not fast:
            return [(one, self._status(one, self._read(one, address, size))) for one in ids]
        if len(ids) < len(parameters[4:]):
            # The chain of a fast sync read breaks at the first servo that is missing.
            return []
        # One packet by all servos together; each but the last ends its part with a checksum.
        body, packet = bytearray([STATUS]), b""
        length = 1 + sum(4 + size for _ in ids)
        head = HEADER + bytes([BROADCAST]) + length.to_bytes(2, "little")
        for one in ids:
            alert = ALERT if self.tables[one][HARDWARE_ERROR] else 0
            body += bytes([alert, one]) + self._read(one, address, size)
            packet = head + bytes(body)
            body += fast_crc16(packet).to_bytes(2, "little")
        return [(ids[-1], head + bytes(body))]

    def _sync_write(self, parameters: bytes) -> None:
        address, size = (int.from_bytes(parameters[i : i + 2], "little") for i in (0, 2))
        starts = range(4, len(parameters) + 1, size + 1)
        for start, end in pairwise(starts):
            if (number := parameters[start]) in self.tables:
                self._write(number, address, parameters[start + 1 : end])

    def _read(self, number: int, address: int, size: int) -> bytes:
        table = self.tables[number]
        velocity = round(self.speed(number) / VELOCITY_UNIT)
        table[VELOCITY : VELOCITY + 4] = velocity.to_bytes(4, "little", signed=True)
        table[POSITION : POSITION + 4] = self.ticks(number).to_bytes(4, "little", signed=True)
        return bytes(table[address : address + size])

    def _write(self, number: int, address: int, data: bytes) -> int:
        """Write registers and return the error number."""
        table = self.tables[number]
        if address + len(data) > TABLE_SIZE:
            return RANGE_ERROR
        if address in EEPROM and table[TORQUE]:
            return ACCESS_ERROR
        if address == GOAL and table[BUS_WATCHDOG] == TRIGGERED:
            return RANGE_ERROR
        if address == TORQUE and table[HARDWARE_ERROR] and data[0]:
            return ACCESS_ERROR
        table[address : address + len(data)] = data
        if address == TORQUE:
            self.power(number, bool(data[0]))
        elif address == GOAL and table[TORQUE]:
            self.aim(number, int.from_bytes(data[:4], "little", signed=True))
        return 0

    def fail(self, number: int, error: int = 0x20) -> None:
        """Put a servo into its error state, overload by default: it lets go of its joint."""
        self.tables[number][HARDWARE_ERROR] = error
        self.tables[number][TORQUE] = 0
        self.power(number, False)
