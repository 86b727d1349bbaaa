"""The one protocol that all back-ends speak."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from ..core.events import RobotState
from ..core.limits import Motion, Vector

Clock = Literal["host", "device"]


class BusError(OSError):
    """A cycle's communication failed; the next one may work."""


class PortError(ConnectionError):
    """The connection could not be opened at all: the robot heard nothing."""


class Driver(Protocol):
    """A robot that is read and written once per control cycle.

    With a ``"device"`` clock `read` waits for the robot's next packet and so sets the pace; with
    a ``"host"`` clock the loop sleeps until its deadline and `read` returns at once.
    """

    @property
    def clock(self) -> Clock:
        """Who sets the pace."""
        ...

    @property
    def num_sensors(self) -> int:
        """Further numbers that come with each measurement."""
        ...

    def connect(self) -> None:
        """Open the connection, set the device's own watchdog, and let the joints hold.

        Raises:
            OSError: If the robot does not answer or another program has it.
        """
        ...

    def read(self) -> RobotState:
        """Measure; raises BusError if this cycle's communication failed."""
        ...

    def write(self, motion: Motion) -> None:
        """Send a command; raises BusError if this cycle's communication failed."""
        ...

    def disconnect(self, torque_off: bool) -> None:
        """Leave the robot at rest, limp or holding, and close; callable at any time, twice too.

        Raises:
            BusError: After closing, if the joints may not be limp that should be.
        """
        ...


@runtime_checkable
class Inspectable(Protocol):
    """A driver whose robot can be looked at before anything takes hold of it."""

    def inspect(self) -> None:
        """Open the connection for reading only: `read` works from here on.

        No register is written, no torque is switched, nothing moves. `connect` goes on from here;
        `disconnect` closes, and with ``torque_off=True`` lets the joints go limp first.

        Raises:
            OSError: If the robot does not answer, is not healthy, or another program has it.
        """
        ...


NOUNS: dict[type, str] = {
    str: "a text", int: "a whole number", float: "a number", list: "a list", bool: "true or false"
}  # fmt: skip


def check_options(
    options: Mapping[str, Any], known: Mapping[str, type], whose: str = "driver"
) -> None:
    """Raise ValueError for an option that the back-end does not know, or of a wrong type.

    Args:
        options: What the user gave.
        known: Type of each option, `object` for any; a whole number is welcome as a float, a
            tuple as a list.
        whose: What they are options of.
    """
    accepted: dict[type, tuple[type, ...]] = {float: (int, float), list: (list, tuple)}
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"unknown {whose} option {name!r}; known are {sorted(known)}")
        kind = known[name]
        is_number = isinstance(value, bool) and kind not in (bool, object)
        if is_number or not isinstance(value, accepted.get(kind, (kind,))):
            raise ValueError(f"{whose} option {name} must be {NOUNS[kind]}, got {value!r}")


def numbers(options: Mapping[str, Any], name: str, count: int | None = None) -> Vector:
    """An option that is a list of finite numbers, shape (count,).

    Raises:
        ValueError: If it holds something else, or not `count` of them.
    """
    values = options[name]
    good = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in values)
    if not good or not np.isfinite(np.asarray(values, np.float64)).all():
        raise ValueError(f"driver option {name} must be a list of finite numbers, got {values}")
    if count is not None and len(values) != count:
        raise ValueError(f"driver option {name} needs {count} values, got {len(values)}: {values}")
    return np.asarray(values, np.float64)
