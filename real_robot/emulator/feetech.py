"""Feetech STS servos, as on the SO-100 and SO-101 arms."""

from __future__ import annotations

from itertools import pairwise

from ..drivers.servo_registers import REGISTERS
from .servos import TICKS, TICKS_PER_TURN, Servos

HEADER = b"\xff\xff"
BROADCAST = 0xFE
PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x82, 0x83
MODEL = 777  # STS3215
MODEL_NUMBER, ID, BAUD, RETURN_DELAY, MODE, TORQUE, GOAL = 3, 5, 6, 7, 33, 40, 42
LOWEST_POSITION, HIGHEST_POSITION, HOTTEST, HIGHEST_VOLTAGE, LOWEST_VOLTAGE = 9, 11, 13, 14, 15
MOST_TORQUE, TORQUE_LIMIT, LOCK, POSITION, VELOCITY, LOAD = 16, 48, 55, 56, 58, 60
VOLTAGE, TEMPERATURE, STATUS = 62, 63, 65
TABLE_SIZE = 87
OFFSET, OFFSET_SIGN = 31, 1 << 11
EEPROM = range(40)
FULL_TORQUE = 1000
# What a servo comes with, beside its ID: registers of one byte, and of two.
BYTES = {
    0: 3, 1: 9, LOCK: 1, RETURN_DELAY: 250, HOTTEST: 70, HIGHEST_VOLTAGE: 140, LOWEST_VOLTAGE: 40,
    VOLTAGE: 120, TEMPERATURE: 30,
}  # fmt: skip
WORDS = {
    MODEL_NUMBER: MODEL, HIGHEST_POSITION: 4095, MOST_TORQUE: FULL_TORQUE,
    TORQUE_LIMIT: FULL_TORQUE,
}  # fmt: skip
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

    eeprom, id_register, baud_register = EEPROM, ID, BAUD
    new_baud, bauds = 0, REGISTERS["feetech"].bauds

    @staticmethod
    def factory_settings(number: int) -> bytearray:
        """Registers of a servo that was given an ID and has just got power."""
        table = bytearray(TABLE_SIZE)
        for address, value in BYTES.items():
            table[address] = value
        for address, value in WORDS.items():
            table[address : address + 2] = value.to_bytes(2, "little")
        table[ID] = number
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

    def ticks(self, number: int) -> int:
        """Position of a servo in encoder counts, less its own offset, within one turn."""
        return (super().ticks(number) - self._offset(number)) % TICKS_PER_TURN

    def aim(self, number: int, ticks: int) -> None:
        """Give a servo a new goal in encoder counts; it never goes there across the seam."""
        turns = super().ticks(number) - self._offset(number) - self.ticks(number)
        super().aim(number, ticks + self._offset(number) + turns)

    def _offset(self, number: int) -> int:
        value = int.from_bytes(self.tables[number][OFFSET : OFFSET + 2], "little")
        return -(value & (OFFSET_SIGN - 1)) if value & OFFSET_SIGN else value

    def handle(self, packet: bytes, now: float) -> list[tuple[int, bytes]]:
        """Act on a packet and return who answers what, in order."""
        if len(packet) < 6 or ~sum(packet[2:-1]) & 0xFF != packet[-1]:
            return []
        number, instruction, parameters = packet[2], packet[4], packet[5:-1]
        present = [one for one in self.tables if number in (one, BROADCAST) and self.hears(one)]
        if instruction == SYNC_READ:
            ids = [one for one in parameters[2:] if self.hears(one)]
            return [(one, self._answer(one, self._read(one, *parameters[:2]))) for one in ids]
        if instruction == SYNC_WRITE:
            address, size = parameters[:2]
            for start, end in pairwise(range(2, len(parameters) + 1, size + 1)):
                if self.hears(parameters[start]):
                    self._write(parameters[start], address, parameters[start + 1 : end])
            return []
        if instruction == PING:
            return [(one, self._answer(one, b"")) for one in present]
        answers = [self._single(one, instruction, parameters) for one in present]
        return [] if number == BROADCAST else [one for one in answers if one[0] in self.tables]

    def _single(self, number: int, instruction: int, parameters: bytes) -> tuple[int, bytes]:
        reply = b""
        if instruction == READ:
            reply = self._read(number, *parameters[:2])
        elif instruction == WRITE:
            number = self._write(number, parameters[0], parameters[1:])
        return number, self._answer(number, reply)

    def _answer(self, number: int, parameters: bytes) -> bytes:
        table = self.tables.get(number)
        return make_packet(number, table[STATUS] if table else 0, parameters)

    def _read(self, number: int, address: int, size: int) -> bytes:
        table = self.tables[number]
        table[POSITION : POSITION + 2] = signed(self.ticks(number))
        table[VELOCITY : VELOCITY + 2] = signed(round(self.speed(number) * TICKS))
        # The load has its sign in another bit than positions have.
        load = round(self.load(number) * FULL_TORQUE)
        table[LOAD : LOAD + 2] = (abs(load) | (1 << 10 if load < 0 else 0)).to_bytes(2, "little")
        return bytes(table[address : address + size])

    def _write(self, number: int, address: int, data: bytes) -> int:
        """Write registers and return the ID that the servo has from then on."""
        table = self.tables[number]
        end = address + len(data)
        if end > TABLE_SIZE:
            return number
        renamed = self.keep(number, address, data, permanent=not table[LOCK])
        if address <= TORQUE < end:
            self.power(number, bool(table[TORQUE]))
        if address <= TORQUE_LIMIT < end:
            limit = int.from_bytes(table[TORQUE_LIMIT : TORQUE_LIMIT + 2], "little")
            self.limit(number, limit / FULL_TORQUE)
        if address <= GOAL < end and table[TORQUE]:
            self.aim(number, unsigned(bytes(table[GOAL : GOAL + 2])))
        return renamed

    def fail(self, number: int, error: int = 0x20) -> None:
        """Put a servo into its error state, overload by default: it lets go of its joint."""
        self.tables[number][STATUS] = error
        self.relax(number)

    def relax(self, number: int) -> None:
        """Switch a servo's torque off, as another program might."""
        self.tables[number][TORQUE] = 0
        self.power(number, False)
