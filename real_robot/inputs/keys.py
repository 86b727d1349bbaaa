"""Keys of a keyboard or pedal that are held: ``/dev/input/event*`` of Linux.

A terminal tells that a key was pressed, never that it was let go; the device tells both. Records
and numbers as in the kernel's Documentation/input/input.rst and input-event-codes.h.
"""

from __future__ import annotations

import array
import fcntl
from contextlib import suppress
from typing import NamedTuple

from .device import EventDevice

EVENT = "@llHHi"  # seconds, microseconds, kind, code, value
SYNCHRONIZE, KEY = 0x00, 0x01
DROPPED = 3
RELEASED, REPEATED = 0, 2
NUM_BYTES = 96  # of a bit for each key
HELD_KEYS = (2 << 30) | (NUM_BYTES << 16) | (ord("E") << 8) | 0x18  # EVIOCGKEY(96)

ROWS = {2: "1234567890-=", 16: "qwertyuiop[]", 30: "asdfghjkl;'`", 43: "\\zxcvbnm,./"}
NAMES = {
    1: "escape", 14: "backspace", 15: "tab", 28: "enter", 29: "ctrl", 42: "shift", 54: "shift",
    56: "alt", 57: "space", 97: "ctrl", 100: "alt", 102: "home", 103: "up", 104: "page up",
    105: "left", 106: "right", 107: "end", 108: "down", 109: "page down", 111: "delete",
    **{59 + index: f"f{1 + index}" for index in range(10)}, 87: "f11", 88: "f12",
    **{first + index: key for first, row in ROWS.items() for index, key in enumerate(row)},
}  # fmt: skip


class Held(NamedTuple):
    """A keyboard at one moment; keys by their names in `NAMES`, others by their numbers as texts.

    Attributes:
        keys: Which are held.
        pressed: Which went down since the previous reading, in order; repetitions are none.
    """

    keys: frozenset[str]
    pressed: tuple[str, ...]


class Keys:
    """A keyboard, pedal or big red button that the system takes for a keyboard.

    Args:
        path: Its device; the names under ``/dev/input/by-id`` stay the same.
    """

    def __init__(self, path: str) -> None:
        self._device = EventDevice(path, EVENT)
        self._file, self._held = -1, set[int]()

    def open(self) -> None:
        """Open it.

        Raises:
            ConnectionError: If there is no such device or it may not be read.
        """
        self._file = self._device.open()
        self._held = self._ask()

    def _ask(self) -> set[int]:
        """Which keys are held, by the device itself."""
        bits = array.array("B", bytes(NUM_BYTES))
        # A device that is no keyboard of the system's cannot tell what is held: nothing is.
        with suppress(OSError):
            fcntl.ioctl(self._file, HELD_KEYS, bits)
        return {8 * at + bit for at, byte in enumerate(bits) for bit in range(8)
                if byte >> bit & 1}  # fmt: skip

    def read(self) -> Held:
        """Its state now; never waits.

        Raises:
            ConnectionError: If it was unplugged.
        """
        pressed: list[str] = []
        for _, _, kind, code, value in self._device.events():
            if kind == SYNCHRONIZE and code == DROPPED:
                # Events were lost, the press of a stop or a release perhaps: ask for what is true.
                before, self._held = self._held, self._ask()
                pressed += map(key_name, self._held - before)
            elif kind == KEY and value == RELEASED:
                self._held.discard(code)
            elif kind == KEY and value != REPEATED:
                self._held.add(code)
                pressed.append(key_name(code))
        return Held(frozenset(map(key_name, self._held)), tuple(pressed))

    def close(self) -> None:
        """Close; callable at any time, twice too."""
        self._device.close()


def key_name(code: int) -> str:
    """Name of a key, or its number as a text."""
    return NAMES.get(code, str(code))
