"""Buttons of a gamepad and keys of a keyboard that are held, or pressed, to stop a robot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..drivers.driver import check_options
from .joystick import Joystick
from .keys import NAMES, Keys
from .stop_input import Signal, hold_and_stop


class _Buttons:
    """A dead-man button, a stop button and a reset button; each is optional.

    Args:
        options: Of the stop input.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._hold, self._stop, self._reset = hold_and_stop(options)

    def _signal(self, held: Collection[Any], pressed: Collection[Any]) -> Signal:
        if self._stop is not None and (self._stop in held or self._stop in pressed):
            return Signal(f"{self._stop} was pressed")
        if self._hold is not None and self._hold not in held:
            return Signal(f"{self._hold} is not held")
        return Signal("", self._reset is not None and self._reset in pressed)


class JoystickStop(_Buttons):
    """A gamepad, with a cable: one without may go silent while its button counts as held.

    Args:
        options: ``device``, and the numbers of the buttons ``hold``, ``stop`` and ``reset``.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        numbers = {"hold": int, "stop": int, "reset": int}
        check_options(options, {"device": str, **numbers}, "stop input")
        super().__init__(options)
        self._pad = Joystick(options.get("device", "/dev/input/js0"))

    def open(self) -> None:
        """Open the device."""
        self._pad.open()

    def read(self, now: float) -> Signal:
        """Which buttons are held and were pressed."""
        del now
        controls = self._pad.read()
        signal = self._signal(controls.buttons, controls.pressed)
        return signal._replace(problem=signal.problem and f"button {signal.problem}")

    def close(self) -> None:
        """Close the device."""
        self._pad.close()


class KeyboardStop(_Buttons):
    """A keyboard, pedal or emergency button that is a keyboard to the system.

    Args:
        options: ``device``, and the names of the keys ``hold``, ``stop`` and ``reset``.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        check_options(
            options, {"device": str, "hold": str, "stop": str, "reset": str}, "stop input"
        )
        super().__init__(options)
        for name in ("hold", "stop", "reset"):
            key = options.get(name)
            if key is not None and key not in NAMES.values() and not key.isdecimal():
                raise ValueError(
                    f"there is no key {key!r} for {name}; a key is {sorted(set(NAMES.values()))}, "
                    "or its number in input-event-codes.h"
                )
        if not options.get("device"):
            raise ValueError("a keyboard needs its device, e.g. /dev/input/by-id/…-event-kbd")
        self._keys = Keys(options["device"])

    def open(self) -> None:
        """Open the device."""
        self._keys.open()

    def read(self, now: float) -> Signal:
        """Which keys are held and were pressed."""
        del now
        keys = self._keys.read()
        signal = self._signal(keys.keys, keys.pressed)
        return signal._replace(problem=signal.problem and f"key {signal.problem}")

    def close(self) -> None:
        """Close the device."""
        self._keys.close()
