"""Dynamixel X servos speaking protocol 2.0, as ROBOTIS documents it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ..drivers.servo_registers import REGISTERS
from .plant import Plant
from .servos import Servos

HEADER = b"\xff\xff\xfd\x00"
BROADCAST = 0xFE
PING, READ, WRITE, REBOOT, STATUS = 0x01, 0x02, 0x03, 0x08, 0x55
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ = 0x82, 0x83, 0x8A
INSTRUCTION_ERROR, RANGE_ERROR, LIMIT_ERROR, ACCESS_ERROR, ALERT = 2, 4, 6, 7, 0x80
MODEL = 1060  # XL430-W250
FIRMWARE = 46
# Registers of the X series: address, and size in bytes.
MODEL_NUMBER, ID, BAUD, RETURN_DELAY, OPERATING_MODE, TORQUE = 0, 7, 8, 9, 11, 64
HARDWARE_ERROR, BUS_WATCHDOG, GOAL_PWM, GOAL, LOAD = 70, 98, 100, 116, 126
VELOCITY, POSITION, VOLTAGE, TEMPERATURE = 128, 132, 144, 146
HOTTEST, HIGHEST_VOLTAGE, LOWEST_VOLTAGE, PWM_LIMIT = 31, 32, 34, 36
HIGHEST_POSITION, LOWEST_POSITION = 48, 52
TABLE_SIZE = 147
EEPROM = range(64)
WRITABLE = range(7, 122)  # and what is not in between, e.g. indirect data, is not emulated
FULL_PWM = 885
LOAD_UNIT = 1e-3
# What a servo comes with, beside its ID: two bytes each but for the ends of its range.
FACTORY = {
    MODEL_NUMBER: MODEL,
    HIGHEST_VOLTAGE: 160,
    LOWEST_VOLTAGE: 65,
    PWM_LIMIT: FULL_PWM,
    HIGHEST_POSITION: 4095,
    GOAL_PWM: FULL_PWM,
    VOLTAGE: 120,
}
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

    eeprom, id_register, baud_register = EEPROM, ID, BAUD
    new_baud, bauds = 1, REGISTERS["dynamixel"].bauds

    def __init__(self, plant: Plant, ids: Sequence[int]) -> None:
        super().__init__(plant, ids)
        self._heard = 0.0

    @staticmethod
    def factory_settings(number: int) -> bytearray:
        """Registers of a servo that was given an ID and has just got power."""
        table = bytearray(TABLE_SIZE)
        for address, value in FACTORY.items():
            table[address : address + 2] = value.to_bytes(2, "little")
        table[6], table[ID], table[BAUD], table[OPERATING_MODE] = FIRMWARE, number, 3, 3
        table[RETURN_DELAY], table[HOTTEST], table[TEMPERATURE] = 250, 72, 30
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
                self.trip(number)

    def trip(self, number: int) -> None:
        """Let a servo's bus watchdog expire."""
        self.tables[number][BUS_WATCHDOG] = TRIGGERED
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
        present = [one for one in everyone if self.hears(one)]
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
                answers.append(answer)
        return answers

    def _status(self, number: int, parameters: bytes, error: int = 0) -> bytes:
        alert = ALERT if self.tables[number][HARDWARE_ERROR] else 0
        return make_packet(number, STATUS, bytes([error | alert]) + parameters)

    def _single(self, number: int, instruction: int, parameters: bytes) -> tuple[int, bytes]:
        if instruction == READ and len(parameters) == 4:
            address, size = (
                int.from_bytes(part, "little") for part in (parameters[:2], parameters[2:])
            )
            return number, self._status(number, self._read(number, address, size))
        if instruction == WRITE and len(parameters) >= 3:
            address = int.from_bytes(parameters[:2], "little")
            error, renamed = self._write(number, address, parameters[2:])
            return renamed, make_packet(renamed, STATUS, bytes([error]))
        if instruction == REBOOT:
            self.reboot(number)
            return number, self._status(number, b"")
        return number, self._status(number, b"", INSTRUCTION_ERROR)

    def _sync_read(self, parameters: bytes, fast: bool) -> list[tuple[int, bytes]]:
        address, size = (int.from_bytes(parameters[i : i + 2], "little") for i in (0, 2))
        ids = [number for number in parameters[4:] if self.hears(number)]
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
            if self.hears(number := parameters[start]):
                self._write(number, address, parameters[start + 1 : end])

    def _read(self, number: int, address: int, size: int) -> bytes:
        table = self.tables[number]
        velocity = round(self.speed(number) / VELOCITY_UNIT)
        table[VELOCITY : VELOCITY + 4] = velocity.to_bytes(4, "little", signed=True)
        table[POSITION : POSITION + 4] = self.ticks(number).to_bytes(4, "little", signed=True)
        load = round(self.load(number) / LOAD_UNIT)
        table[LOAD : LOAD + 2] = load.to_bytes(2, "little", signed=True)
        return bytes(table[address : address + size])

    def _write(self, number: int, address: int, data: bytes) -> tuple[int, int]:
        """Write registers; the answer's error byte, and the ID that the servo has then."""
        table = self.tables[number]
        alert = ALERT if table[HARDWARE_ERROR] else 0
        if error := self._objection(table, address, data):
            return error | alert, number
        renamed = self.keep(number, address, data)
        if address == TORQUE:
            self.power(number, bool(data[0]))
        elif address == GOAL_PWM:
            self.limit(number, int.from_bytes(data[:2], "little") / FULL_PWM)
        elif address == GOAL and table[TORQUE]:
            self.aim(number, int.from_bytes(data[:4], "little", signed=True))
        return alert, renamed

    @staticmethod
    def _objection(table: bytearray, address: int, data: bytes) -> int:
        """Error number of a write that the servo refuses, 0 if it does not."""
        if address + len(data) > TABLE_SIZE:
            return RANGE_ERROR
        if not WRITABLE.start <= address < WRITABLE.stop:
            return ACCESS_ERROR
        if address in EEPROM and table[TORQUE]:
            return ACCESS_ERROR
        if address in (GOAL, GOAL_PWM) and table[BUS_WATCHDOG] == TRIGGERED:
            return RANGE_ERROR
        if address == GOAL_PWM and abs(_number(data[:2])) > _number(
            table[PWM_LIMIT : PWM_LIMIT + 2]
        ):
            return LIMIT_ERROR
        if address == GOAL:
            low, high = (_number(table[at : at + 4]) for at in (LOWEST_POSITION, HIGHEST_POSITION))
            return 0 if low <= _number(data[:4]) <= high else LIMIT_ERROR
        if address == TORQUE and table[HARDWARE_ERROR] and data[0]:
            return ACCESS_ERROR
        return 0

    def fail(self, number: int, error: int = 0x20) -> None:
        """Put a servo into its error state, overload by default: it lets go of its joint."""
        self.tables[number][HARDWARE_ERROR] = error
        self.relax(number)

    def relax(self, number: int) -> None:
        """Switch a servo's torque off, as another program might."""
        self.tables[number][TORQUE] = 0
        self.power(number, False)


def _number(data: bytes | bytearray) -> int:
    return int.from_bytes(data, "little", signed=True)
