"""IDs and baud rates of new servos, one servo at a time: out of the box all have the same."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from ..drivers.driver import BusError
from ..drivers.servo_access import LAST_SCANNED, opened
from ..drivers.servo_options import FAMILIES, ServoOptions
from ..drivers.servo_registers import REGISTERS
from .operator import YES, PatientOperator

FACTORY_BAUDS = (57_600, 1_000_000)
# A USB adapter in its default setting holds an answer back for 16 ms.
SCAN_TIMEOUT = 0.02  # [s]


class Found(NamedTuple):
    """A servo that answers: its ID, baud rate and operating mode."""

    number: int
    baud: int
    mode: int


def assign(
    driver: str, options: ServoOptions, joints: tuple[str, ...], operator: PatientOperator
) -> None:
    """Give each joint's servo its ID, the baud rate, and position mode.

    Args:
        driver: Name of the servo family.
        options: IDs and baud rate that the servos shall have.
        joints: Name of each joint.
        operator: Connects one servo after the other.

    Raises:
        ConnectionError: If a servo does not take what it is given.
    """
    for name, number in zip(joints, options.ids, strict=True):
        wanted = Found(number, options.baud, REGISTERS[driver].position_mode)
        found = _alone(driver, options, name, number, operator)
        if found == wanted:
            operator.say(f"{name}: servo {number} at {options.baud} baud, as it should be")
            continue
        answer = operator.ask(
            f"{name}: the servo has ID {found.number}, {found.baud} baud and mode {found.mode}. "
            f"Write ID {number}, {options.baud} baud and mode {wanted.mode} (position) into its "
            "permanent memory? [y/n]"
        )
        if answer.lower() not in YES:
            raise ValueError(f"the servo of {name} keeps ID {found.number}; nothing was written")
        _give(driver, options, found, wanted)
        operator.say(f"{name}: written, servo {number} answers")


def _alone(
    driver: str, options: ServoOptions, name: str, number: int, operator: PatientOperator
) -> Found:
    """The one servo that is connected."""
    while True:
        operator.ask(f"Connect the servo of {name} alone, with power, and press Enter.")
        found = look_around(driver, options)
        if len(found) == 1:
            return found[0]
        if found:
            operator.mistake(f"servos {[one.number for one in found]} answer, expected one alone")
        else:
            operator.mistake(
                f"no servo with an ID from 0 to {LAST_SCANNED} answers at any baud rate; check "
                "power and cable, and that no other servo is connected"
            )


def look_around(driver: str, options: ServoOptions) -> list[Found]:
    """Servos that answer, at the first baud rate at which one does, beginning with the wanted."""
    found = _at(driver, options)
    for baud in sorted(FAMILIES[driver].bauds, key=lambda one: one not in FACTORY_BAUDS):
        if found:
            break
        if baud == options.baud:
            continue
        # The SDK or the adapter may not know a rate that servos have.
        with suppress(ValueError, OSError):
            found = _at(driver, replace(options, baud=baud))
    return found


def _at(driver: str, options: ServoOptions) -> list[Found]:
    patient = replace(options, reply_timeout=max(options.reply_timeout, SCAN_TIMEOUT))
    candidates = sorted({*range(LAST_SCANNED + 1), *options.ids})
    with opened(driver, patient) as bus:
        found = [one for one in candidates if bus.answers(one, attempts=1)]
        mode = REGISTERS[driver].mode.address
        return [Found(one, options.baud, bus.get(one, mode)) for one in found]


def _give(driver: str, options: ServoOptions, found: Found, wanted: Found) -> None:
    """Write ID, baud rate and mode of the one servo that is connected, and see that it has them."""
    table = REGISTERS[driver]
    with opened(driver, replace(options, baud=found.baud)) as bus:
        bus.put(found.number, table.torque.address, 0)
        if table.lock:
            bus.put(found.number, table.lock.address, 0)
        bus.put(found.number, table.mode.address, table.position_mode)
        # From here on the answer comes with the new ID, or at the new rate: it is not waited for.
        with suppress(BusError):
            bus.put(found.number, table.number.address, wanted.number)
        if found.baud != wanted.baud:
            with suppress(BusError):
                bus.put(wanted.number, table.baud.address, table.bauds.index(wanted.baud))
    with opened(driver, options) as bus:
        if not bus.answers(wanted.number):
            raise ConnectionError(
                f"the servo does not answer as {wanted.number} at {wanted.baud} baud after it was "
                "told to; switch its power off and on and try again"
            )
        if table.lock:
            bus.put(wanted.number, table.lock.address, 1)
