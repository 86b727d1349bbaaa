"""What sticks, buttons and keys ask for: how fast each thing that can be moved should go."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from ..core.limits import Vector
from ..inputs.joystick import Controls, Joystick
from ..inputs.keys import Keys

TOOL = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
# A terminal tells presses only, and repeats those of a key that is held about 30 times a second.
PULSE = 0.15  # [s]
STICKS = ("axis0", "-axis1", "-axis4", "axis3", "axis6", "button5-button4", "axis7")
TOOL_STICKS = {
    "x": "-axis1", "y": "-axis0", "z": "-axis4", "yaw": "-axis3", "roll": "axis6",
    "pitch": "-axis7", "gripper": "button5-button4",
}  # fmt: skip
KEY_PAIRS = ("12", "34", "56", "78", "90", "-=", "[]")
TOOL_KEYS = {
    "x": "↓↑", "y": "→←", "z": "nu", "roll": "12", "pitch": "34", "yaw": "56", "gripper": "co",
}  # fmt: skip
ARROWS = {"↑": "up", "↓": "down", "←": "left", "→": "right"}
# What a gamepad's buttons mean to whoever listens to keys: A keeps, B drops, Y again, start starts.
BUTTON_KEYS = {0: "k", 1: "d", 3: "b", 7: "s", 6: "i"}
_TERM = re.compile(r"([+-]?)(axis|button)(\d+)")


class Wishes(Protocol):
    """A device that a person moves something with."""

    def read(self, keys: str) -> Vector:
        """How fast each thing should go, from -1 to 1, shape (n,).

        Args:
            keys: Pressed on the terminal since the previous call.

        Raises:
            ConnectionError: If the device is lost.
        """
        ...

    def pressed(self) -> str:
        """Keys that buttons of the device stand for, pressed since the previous call."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


class GamepadWishes:
    """A gamepad's sticks and buttons.

    Args:
        bindings: What moves each thing, e.g. ``"-axis1"`` or ``"button5-button4"``.
        device: File of the gamepad.

    Raises:
        ValueError: If a binding cannot be read.
        ConnectionError: If there is no such gamepad.
    """

    def __init__(self, bindings: Sequence[str], device: str = "") -> None:
        self._terms = [parse_sticks(binding) for binding in bindings]
        self._joystick = Joystick(device) if device else Joystick()
        self._pressed = ""
        self._joystick.open()

    def read(self, keys: str) -> Vector:
        """Sticks with a dead zone, buttons as all or nothing."""
        del keys
        found = self._look()
        sums = [sum(sign * _value(found, kind, n) for sign, kind, n in row) for row in self._terms]
        return np.maximum(np.minimum(np.asarray(sums, np.float64), 1), -1)

    def pressed(self) -> str:
        """Keys that buttons stand for."""
        self._look()
        pressed, self._pressed = self._pressed, ""
        return pressed

    def _look(self) -> Controls:
        found = self._joystick.read()
        self._pressed += "".join(BUTTON_KEYS.get(button, "") for button in found.pressed)
        return found

    def close(self) -> None:
        """Close the gamepad."""
        self._joystick.close()


class KeyWishes:
    """A keyboard: two keys for each thing, one for each direction.

    Args:
        bindings: The keys that move each thing down and up, two characters.
        device: File of the keyboard, whose keys count while they are held; empty for the terminal,
            where each press counts for a moment.
        monotonic: Clock [s].

    Raises:
        ValueError: If a binding is no pair of keys.
        ConnectionError: If there is no such keyboard.
    """

    def __init__(
        self,
        bindings: Sequence[str],
        device: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        for binding in bindings:
            if len(binding) not in (0, 2):
                raise ValueError(f"a keyboard binding is two keys, e.g. '12', got {binding!r}")
        self._bindings, self._monotonic = list(bindings), monotonic
        self._until: dict[str, float] = {}
        self._device = Keys(device) if device else None
        if self._device is not None:
            self._device.open()

    def read(self, keys: str) -> Vector:
        """One for the second key of a pair, minus one for the first."""
        now = self._monotonic()
        held = {key for key, until in self._until.items() if until > now}
        if self._device is not None:
            names = self._device.read().keys
            held = {key for pair in self._bindings for key in pair if ARROWS.get(key, key) in names}
        else:
            self._until |= dict.fromkeys(keys, now + PULSE)
            held |= set(keys)
        return np.array(
            [float(pair[1] in held) - float(pair[0] in held) if pair else 0.0
             for pair in self._bindings]
        )  # fmt: skip

    def pressed(self) -> str:
        """None: the terminal's keys are heard anyway."""
        return ""

    def close(self) -> None:
        """Close the keyboard."""
        if self._device is not None:
            self._device.close()


def parse_sticks(binding: str) -> list[tuple[float, str, int]]:
    """Signs, kinds and numbers in e.g. ``"button5-button4"``.

    Raises:
        ValueError: If it is something else.
    """
    if _TERM.sub("", binding):
        raise ValueError(
            f"a gamepad binding is made of axisN and buttonN with signs, e.g. '-axis1' or "
            f"'button5-button4', got {binding!r}"
        )
    return [
        (-1.0 if sign == "-" else 1.0, kind, int(n)) for sign, kind, n in _TERM.findall(binding)
    ]


def _value(found: Controls, kind: str, number: int) -> float:
    return found.axis(number) if kind == "axis" else float(number in found.buttons)


def bindings_of(
    things: Sequence[str], defaults: Mapping[str, str], given: Mapping[str, str]
) -> list[str]:
    """What moves each thing; empty for one that nothing moves.

    Raises:
        ValueError: If something is bound that cannot be moved.
    """
    if unknown := sorted(given.keys() - set(things)):
        raise ValueError(
            f"teleop.bindings names {unknown[0]!r}; what can be moved are {', '.join(things)}"
        )
    return [given.get(thing, defaults.get(thing, "")) for thing in things]
