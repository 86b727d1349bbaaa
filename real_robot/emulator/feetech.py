"""Feetech STS servos, as on the SO-100 and SO-101 arms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from .plant import Plant
from .servos import TICKS, Servos

HEADER = b"\xff\xff"
BROADCAST = 0xFE
PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x82, 0x83
MODEL = 777  # STS3215
MODEL_NUMBER, ID, RETURN_DELAY, MODE, TORQUE, GOAL = 3, 5, 7, 33, 40, 42
LOCK, POSITION, VELOCITY, STATUS = 55, 56, 58, 65
TABLE_SIZE = 87
SIGN = 1 << 15


def signed(value: int) -> bytes:
    """Two bytes, sign and magnitude."""
    return (abs(value) & (SIGN - 1) | (SIGN if value < 0 else 0)).to_bytes(2, "little")


def unsigned(data: bytes) -> int:
    """Undo `signed`."""
    value = int.from_bytes(data, "little")
    return -(value & (SIGN - 1)) if value & SIGN else value


def make_packet(number: int, code: int, parameters: bytes) -> bytes:
    """A packet with its checksum; `code` is the instruction, or the error of an answer."""
    body = bytes([number, len(parameters) + 2, code]) + parameters
    return HEADER + body + bytes([~sum(body) & 0xFF])


class FeetechServos(Servos):
    """The servos of one bus. They have no watchdog: a goal stands until the next one."""

    def __init__(self, plant: Plant, ids: Sequence[int]) -> None:
        super().__init__(plant, ids)
        self.tables = {number: self._factory_settings(number) for number in ids}

    @staticmethod
    def _factory_settings(number: int) -> bytearray:
        table = bytearray(TABLE_SIZE)
        table[0], table[1], table[ID], table[LOCK] = 3, 9, number, 1
        table[MODEL_NUMBER : MODEL_NUMBER + 2] = MODEL.to_bytes(2, "little")
        table[RETURN_DELAY] = 250
        return table

    @staticmethod
    def split(buffer: bytearray) -> list[bytes]:
        """Take complete packets out of a buffer, dropping noise before a header."""
        packets: list[bytes] = []
        while (start := buffer.find(HEADER)) >= 0:
            del buffer[:start]
            if len(buffer) >= 3 and buffer[2] == 0xFF:
                del buffer[:1]
                continue
            if len(buffer) < 4 or len(buffer) < (size := 4 + buffer[3]):
                break
            packets.append(bytes(buffer[:size]))
            del buffer[:size]
        return packets

    def watch(self, now: float) -> None:
        """These servos do not care whether anybody is there."""

    def return_delay(self, number: int) -> float:
        """Pause of a servo before its answer [s]."""
        return self.tables[number][RETURN_DELAY] * 2e-6

    def handle(self, packet: bytes, now: float) -> list[tuple[int, bytes]]:
        """Act on a packet and return who answers what, in order."""
        if len(packet) < 6 or ~sum(packet[2:-1]) & 0xFF != packet[-1]:
            return []
        number, instruction, parameters = packet[2], packet[4], packet[5:-1]
        present = [one for one in self.tables if number in (one, BROADCAST)]
        if instruction == SYNC_READ:
            ids = [one for one in parameters[2:] if one in self.tables]
            return [(one, self._answer(one, self._read(one, *parameters[:2]))) for one in ids]
        if instruction == SYNC_WRITE:
            address, size = parameters[:2]
            for start, end in pairwise(range(2, len(parameters) + 1, size + 1)):
                if parameters[start] in self.tables:
                    self._write(parameters[start], address, parameters[start + 1 : end])
            return []
        if instruction == PING:
            return [(one, self._answer(one, b"")) for one in present]
        answers: list[tuple[int, bytes]] = []
        for one in present:
            reply = self._read(one, *parameters[:2]) if instruction == READ else b""
            if instruction == WRITE:
                self._write(one, parameters[0], parameters[1:])
            answers.append((one, self._answer(one, reply)))
        return answers if number != BROADCAST else []

    def _answer(self, number: int, parameters: bytes) -> bytes:
        return make_packet(number, self.tables[number][STATUS], parameters)

    def _read(self, number: int, address: int, size: int) -> bytes:
        table = self.tables[number]
        table[POSITION : POSITION + 2] = signed(self.ticks(number))
        table[VELOCITY : VELOCITY + 2] = signed(round(self.speed(number) * TICKS))
        return bytes(table[address : address + size])

    def _write(self, number: int, address: int, data: bytes) -> None:
        table = self.tables[number]
        if address + len(data) > TABLE_SIZE:
            return
        table[address : address + len(data)] = data
        if address <= TORQUE < address + len(data):
            self.power(number, bool(table[TORQUE]))
        if address <= GOAL < address + len(data) and table[TORQUE]:
            self.aim(number, unsigned(bytes(table[GOAL : GOAL + 2])))

    def fail(self, number: int, error: int = 0x20) -> None:
        """Put a servo into its error state, overload by default: it lets go of its joint."""
        self.tables[number][STATUS] = error
        self.tables[number][TORQUE] = 0
        self.power(number, False)
