"""What happens to an emulated arm from outside, a line of text each: faults, hands, obstacles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .dynamixel import DynamixelServos
from .feetech import FeetechServos

Arm = DynamixelServos | FeetechServos


class Happening(NamedTuple):
    """Something that can happen.

    Attributes:
        numbers: What it is told, in words; an ellipsis for as many as one likes.
        act: Does it.
    """

    numbers: tuple[str, ...]
    act: Callable[[Arm, Sequence[float]], None]


def happen(servos: Arm, line: str) -> str:
    """Let something happen, e.g. ``reboot 3``, and say what is known.

    Raises:
        ValueError: If there is no such thing, or not with these numbers.
    """
    name, *words = line.split() or ["help"]
    known = {key: " ".join((key, *one.numbers)) for key, one in HAPPENINGS.items()}
    if name not in HAPPENINGS:
        raise ValueError(f"what can happen: {'; '.join(known.values())}; got {line.strip()!r}")
    wanted = HAPPENINGS[name].numbers
    try:
        numbers = [float(word) for word in words]
        if "..." not in wanted and len(numbers) != len(wanted):
            raise ValueError
        with servos.lock:
            HAPPENINGS[name].act(servos, numbers)
    except (ValueError, KeyError, IndexError):
        servo = f"servos {list(servos.tables)}, joints 0 to {servos.plant.num_joints - 1}"
        raise ValueError(f"expected {known[name]!r} with {servo}; got {line.strip()!r}") from None
    return f"done: {line.strip()}"


def _trip(servos: Arm, number: int) -> None:
    if not isinstance(servos, DynamixelServos):
        raise ValueError("these servos have no watchdog")
    servos.trip(number)


def _move(servos: Arm, joint: int, place: float) -> None:
    position = servos.plant.position
    position[joint] = place
    servos.plant.pose(position, np.zeros(0))


SERVO, JOINT = "SERVO", "JOINT"
HAPPENINGS: dict[str, Happening] = {
    "plug": Happening(
        (JOINT, "..."), lambda arm, given: arm.plug_in([_joint(arm, one) for one in given])
    ),
    "reboot": Happening((SERVO,), lambda arm, given: arm.reboot(int(given[0]))),
    "relax": Happening((SERVO,), lambda arm, given: arm.relax(int(given[0]))),
    "fail": Happening((SERVO,), lambda arm, given: arm.fail(int(given[0]))),
    "trip": Happening((SERVO,), lambda arm, given: _trip(arm, int(given[0]))),
    "move": Happening(
        (JOINT, "PLACE"), lambda arm, given: _move(arm, _joint(arm, given[0]), given[1])
    ),
    "block": Happening(
        (JOINT, "LOW", "HIGH"),
        lambda arm, given: arm.plant.obstruct(_joint(arm, given[0]), given[1], given[2]),
    ),
    "clear": Happening((), lambda arm, given: arm.plant.clear()),
}


def _joint(arm: Arm, number: float) -> int:
    if number not in range(arm.plant.num_joints):
        raise ValueError(f"there is no joint {number:g}")
    return int(number)
