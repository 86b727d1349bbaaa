"""What happens to an emulated arm from outside, a line of text each: faults, hands, obstacles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

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


def _plug(arm: Arm, given: Sequence[float]) -> None:
    arm.plug_in([_joint(arm, one) for one in given])


def _reboot(arm: Arm, given: Sequence[float]) -> None:
    arm.reboot(int(given[0]))


def _relax(arm: Arm, given: Sequence[float]) -> None:
    arm.relax(int(given[0]))


def _fail(arm: Arm, given: Sequence[float]) -> None:
    arm.fail(int(given[0]))


def _trip(arm: Arm, given: Sequence[float]) -> None:
    if not isinstance(arm, DynamixelServos):
        raise ValueError("these servos have no watchdog")
    arm.trip(int(given[0]))


def _move(arm: Arm, given: Sequence[float]) -> None:
    arm.plant.move_by_hand(_joint(arm, given[0]), given[1])


def _let_go(arm: Arm, given: Sequence[float]) -> None:
    arm.plant.held[:] = False


def _block(arm: Arm, given: Sequence[float]) -> None:
    arm.plant.obstruct(_joint(arm, given[0]), given[1], given[2])


def _clear(arm: Arm, given: Sequence[float]) -> None:
    arm.plant.clear()


SERVO, JOINT = "SERVO", "JOINT"
HAPPENINGS = {
    "plug": Happening((JOINT, "..."), _plug),
    "reboot": Happening((SERVO,), _reboot),
    "relax": Happening((SERVO,), _relax),
    "fail": Happening((SERVO,), _fail),
    "trip": Happening((SERVO,), _trip),
    "move": Happening((JOINT, "PLACE"), _move),
    "drop": Happening((), _let_go),
    "block": Happening((JOINT, "LOW", "HIGH"), _block),
    "clear": Happening((), _clear),
}


def _joint(arm: Arm, number: float) -> int:
    if number not in range(arm.plant.num_joints):
        raise ValueError(f"there is no joint {number:g}")
    return int(number)
