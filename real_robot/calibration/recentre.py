"""Moves the seam of a servo's encoder, where its count begins again, out of its joint's range."""

from __future__ import annotations

import numpy as np

from ..core.limits import Vector
from ..drivers.servo_options import COUNTS
from .arm import LimpArm
from .measure import LARGEST_TREMOR, shortest_way
from .operator import YES, Operator

SIGN = 1 << 11  # of the offset register


def recentre(arm: LimpArm, operator: Operator, shift: Vector) -> Vector:
    """Let servos read fewer counts; what they were told is checked by what they read then.

    Args:
        arm: Held still or lying.
        operator: Is asked before anything is written.
        shift: By how many counts each is to read less, shape (D,); 0 leaves a servo alone.

    Returns:
        `shift`.

    Raises:
        ValueError: If servos cannot do that, or the operator does not want it.
        ConnectionError: If a servo reads something else than it should afterwards.
    """
    joints = np.flatnonzero(shift)
    if not len(joints):
        return shift
    named = ", ".join(arm.named[joint] for joint in joints)
    crossing = f"the encoder of {named} begins again at 0 within the joint's range"
    if arm.registers.offset is None:
        raise ValueError(
            f"{crossing}, where it cannot be followed; turn the horn on the servo by half a turn "
            "and calibrate again"
        )
    answer = operator.ask(
        f"{crossing}. Write an offset into the permanent memory, so that the middle of the range "
        f"reads {COUNTS // 2}, and let the servo accept all its counts? Lay the arm down first. "
        "[y/n]"
    )
    if answer.lower() not in YES:
        raise ValueError(f"{crossing}; no offset was written, so that it cannot be calibrated")
    before = arm.ticks()
    for joint in joints:
        _write(arm, arm.bus.ids[joint], int(shift[joint]))
    left = np.abs(shortest_way(before - shift, arm.ticks()))
    if (left > 2 * LARGEST_TREMOR).any():
        wrong = arm.named[int(np.argmax(left))]
        raise ConnectionError(
            f"{wrong} reads {left.max():.0f} counts off after its offset was written; was the arm "
            "moved? Calibrate again"
        )
    return shift


def _write(arm: LimpArm, number: int, shift: int) -> None:
    table, bus = arm.registers, arm.bus
    assert table.offset is not None and table.lock is not None
    raw = bus.get(number, *table.offset)
    old = -(raw & SIGN - 1) if raw & SIGN else raw
    half = COUNTS // 2
    # One count less than half a turn is the most that fits beside the sign.
    offset = max((old + shift + half) % COUNTS - half, 1 - half)
    bus.put(number, table.lock.address, 0)
    bus.put(number, table.offset.address, abs(offset) | (SIGN if offset < 0 else 0), 2)
    # What it was limited to before, e.g. by LeRobot, was counted from the old offset.
    bus.put(number, table.low.address, 0, table.low.size)
    bus.put(number, table.high.address, COUNTS - 1, table.high.size)
    bus.put(number, table.lock.address, 1)
