"""The one protocol that all back-ends speak."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from ..core.events import RobotState
from ..core.limits import Motion

Clock = Literal["host", "device"]


class BusError(OSError):
    """A cycle's communication failed; the next one may work."""


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
        """Leave the robot at rest, limp or holding, and close; callable at any time, twice too."""
        ...


def check_options(options: Mapping[str, Any], known: Mapping[str, type | tuple[type, ...]]) -> None:
    """Raise ValueError for an option that the back-end does not know, or of a wrong type."""
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"unknown driver option {name!r}; known are {sorted(known)}")
        if not isinstance(value, known[name]):
            raise ValueError(f"driver option {name} must be {known[name]}, got {value!r}")
