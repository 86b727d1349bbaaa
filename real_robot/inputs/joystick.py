"""Gamepads and joysticks: ``/dev/input/js*`` of Linux.

Records as in the kernel's Documentation/input/joydev/joystick-api.rst.
"""

from __future__ import annotations

from typing import NamedTuple

from .device import EventDevice

EVENT = "=IhBB"  # time [ms], value, kind, number
BUTTON, AXIS, INITIAL = 0x01, 0x02, 0x80
FULL = 32767


class Controls(NamedTuple):
    """A gamepad at one moment.

    Attributes:
        axes: Sticks and triggers, from -1 to 1, right and down are positive; 0 for one that it
            has not.
        buttons: Which are held.
        pressed: Buttons that went down since the previous reading, in order.
    """

    axes: dict[int, float]
    buttons: frozenset[int]
    pressed: tuple[int, ...]

    def axis(self, number: int, dead: float = 0.1) -> float:
        """One axis without its dead zone: 0 up to `dead`, from there evenly to ±1."""
        value = self.axes.get(number, 0.0)
        size = max(abs(value) - dead, 0.0) / (1 - dead)
        return size if value > 0 else -size


class Joystick:
    """A gamepad or joystick.

    Args:
        path: Its device.
    """

    def __init__(self, path: str = "/dev/input/js0") -> None:
        self._device = EventDevice(path, EVENT)
        self._axes: dict[int, float] = {}
        self._buttons: set[int] = set()

    def open(self) -> None:
        """Open it; the first reading tells what is held already.

        Raises:
            ConnectionError: If there is no such device or it may not be read.
        """
        self._axes, self._buttons = {}, set()
        self._device.open()

    def read(self) -> Controls:
        """Its state now; never waits.

        Raises:
            ConnectionError: If it was unplugged.
        """
        pressed: list[int] = []
        for _, value, kind, number in self._device.events():
            if kind & AXIS:
                self._axes[number] = max(value / FULL, -1.0)
            elif kind & BUTTON and value:
                self._buttons.add(number)
                if not kind & INITIAL:
                    pressed.append(number)
            elif kind & BUTTON:
                self._buttons.discard(number)
        return Controls(dict(self._axes), frozenset(self._buttons), tuple(pressed))

    def close(self) -> None:
        """Close; callable at any time, twice too."""
        self._device.close()
