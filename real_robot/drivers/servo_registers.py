"""Where servos keep what, from the makers' control tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

TRIPPED = 0xFF  # of a bus watchdog


class Register(NamedTuple):
    """Address of a register, and its size in bytes."""

    address: int
    size: int = 1


@dataclass(frozen=True)
class ServoRegisters:
    """Registers of one family of servos.

    Attributes:
        model: Model number.
        number: The servo's ID (EEPROM).
        baud: Code of its baud rate (EEPROM).
        bauds: Baud rate of each code [bit/s].
        return_delay: Pause before an answer (EEPROM) [2 us].
        mode: Operating mode (EEPROM).
        position_mode: Its value for position control.
        low: Smallest goal that the servo accepts (EEPROM) [encoder counts].
        high: Largest one.
        torque: Whether it holds its joint.
        lock: Whether the EEPROM is locked; None if it is while the torque is on.
        watchdog: Bus watchdog, `TRIPPED` after it has stopped the servo; None if there is none.
        status: What it complains about, one bit each.
        complaints: Meaning of the bits.
        offset: What the servo takes off its encoder's count (EEPROM), sign in bit 11; None if it
            does not move the seam at which the count begins again.
        voltage: Supply [0.1 V].
        voltage_range: Registers of the smallest and largest supply that it accepts, in that unit
            times the factor behind them.
        temperature: Of the motor [deg C].
        hottest: At which it switches off (EEPROM).
        load: How hard it pushes, with a sign.
        load_sign: The sign's bit; None if the load is a two's complement.
        torque_limit: How hard it may push, until it loses power.
        torque_most: Highest value of that (EEPROM).
        full_torque: Its value for full torque.
        rounds: Names of those that are read together while the robot moves, in turn: near each
            other, so that one short read of all servos has them, and the urgent ones more often.
            No two reads are of one length, nor of that of the positions: a late answer to another
            question is known by it.
    """

    model: Register
    number: Register
    baud: Register
    bauds: tuple[int, ...]
    return_delay: Register
    mode: Register
    position_mode: int
    low: Register
    high: Register
    torque: Register
    lock: Register | None
    watchdog: Register | None
    status: Register
    complaints: dict[int, str]
    offset: Register | None
    voltage: Register
    voltage_range: tuple[Register, Register]
    temperature: Register
    hottest: Register
    load: Register
    load_sign: int | None
    torque_limit: Register
    torque_most: Register
    full_torque: int
    rounds: tuple[tuple[str, ...], ...]

    def magnitude(self, load: int) -> int:
        """A load without its sign."""
        if self.load_sign is not None:
            return load & (1 << self.load_sign) - 1
        return min(load, (1 << 16) - load)


REGISTERS = {
    # https://emanual.robotis.com/docs/en/dxl/x/xl430-w250/
    "dynamixel": ServoRegisters(
        model=Register(0, 2),
        number=Register(7),
        baud=Register(8),
        bauds=(9600, 57600, 115200, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 4_500_000),
        return_delay=Register(9),
        mode=Register(11),
        position_mode=3,
        low=Register(52, 4),
        high=Register(48, 4),
        torque=Register(64),
        lock=None,
        watchdog=Register(98),
        status=Register(70),
        complaints={
            0: "supply voltage",
            2: "overheating",
            3: "encoder",
            4: "electrical shock",
            5: "overload",
        },
        # In position mode, the homing offset leaves the seam where it is.
        offset=None,
        voltage=Register(144, 2),
        voltage_range=(Register(34, 2), Register(32, 2)),
        temperature=Register(146),
        hottest=Register(31),
        load=Register(126, 2),
        load_sign=None,
        torque_limit=Register(100, 2),
        torque_most=Register(36, 2),
        full_torque=885,
        rounds=(
            ("torque", "status"),
            ("watchdog",),
            ("load",),
            ("torque", "status"),
            ("watchdog",),
            ("voltage", "temperature"),
        ),
    ),
    # Feetech's memory table of the STS and SMS series.
    "feetech": ServoRegisters(
        model=Register(3, 2),
        number=Register(5),
        baud=Register(6),
        bauds=(1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400),
        return_delay=Register(7),
        mode=Register(33),
        position_mode=0,
        low=Register(9, 2),
        high=Register(11, 2),
        torque=Register(40),
        lock=Register(55),
        watchdog=None,
        status=Register(65),
        complaints={
            0: "supply voltage",
            1: "encoder",
            2: "overheating",
            3: "current",
            4: "angle",
            5: "overload",
        },
        offset=Register(31, 2),
        voltage=Register(62),
        voltage_range=(Register(15), Register(14)),
        temperature=Register(63),
        hottest=Register(13),
        load=Register(60, 2),
        load_sign=10,
        torque_limit=Register(48, 2),
        torque_most=Register(16, 2),
        full_torque=1000,
        rounds=(("torque",), ("load", "voltage"), ("torque",), ("load", "temperature", "status")),
    ),
}
