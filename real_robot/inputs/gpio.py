"""A switch at a pin of the computer, read through the kernel by the maintainers' `gpiod`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...decoding.plumbing.extras import require
from ..drivers.driver import check_options
from .stop_input import Signal


class GpioStop:
    """A line whose level says that the robot may move; a cut wire says that it may not.

    Args:
        options: ``line``, its number; ``chip``, by default ``/dev/gpiochip0``; ``go``, the level
            at which the robot may move: ``"high"`` for a switch between the line and the supply,
            ``"low"`` for one between the line and ground. The pull of the chip is set to the other
            level. ``reset``, a line with a button to the same side.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        known = {"chip": str, "line": int, "go": str, "reset": int}
        check_options(options, known, "stop input")
        if "line" not in options:
            raise ValueError("a switch needs its line, e.g. line=17")
        self._line, self._reset = options["line"], options.get("reset")
        self._chip, self._go = options.get("chip", "/dev/gpiochip0"), options.get("go", "high")
        if self._go not in ("high", "low"):
            raise ValueError(f"go must be 'high' or 'low', got {self._go!r}")
        if self._line == self._reset:
            raise ValueError(f"line and reset must differ, got {self._line} twice")
        self._gpiod: Any = require("gpiod", "gpio")
        self._request: Any = None
        self._was_pressed = True

    def open(self) -> None:
        """Take the lines."""
        line = self._gpiod.line
        settings = self._gpiod.LineSettings(
            direction=line.Direction.INPUT,
            bias=line.Bias.PULL_DOWN if self._go == "high" else line.Bias.PULL_UP,
            active_low=self._go == "low",
        )
        lines = [one for one in (self._line, self._reset) if one is not None]
        try:
            self._request = self._gpiod.request_lines(
                self._chip, consumer="hotloop", config={one: settings for one in lines}
            )
        except OSError as error:
            raise ConnectionError(f"{self._chip}, lines {lines}: {error.strerror}") from error

    def read(self, now: float) -> Signal:
        """The level of the line."""
        del now
        if self._request is None:
            raise ConnectionError("it is not open")
        active = self._gpiod.line.Value.ACTIVE
        pressed = self._reset is not None and self._request.get_value(self._reset) == active
        reset, self._was_pressed = pressed and not self._was_pressed, pressed
        if self._request.get_value(self._line) != active:
            return Signal(f"line {self._line} is not {self._go}")
        return Signal("", reset)

    def close(self) -> None:
        """Give the lines back."""
        if self._request is not None:
            self._request.release()
            self._request = None
