"""What an operator holds in the hand: gamepads and keys, for moving a robot and for stopping it."""

from __future__ import annotations

from typing import Any

from ...decoding.plumbing.plugins import Registry, refuse_no_class
from ..config import RobotConfig, StopInputConfig
from .stop_input import Signal, StopInput

__all__ = ["STOP_INPUTS", "Signal", "StopInput", "StopInputs", "make_stop_input"]

STOP_INPUTS: Registry[type[Any]] = Registry(
    "hotloop.stop_inputs",
    "stop input",
    {
        "udp": "udp:UdpStop",
        "joystick": "buttons:JoystickStop",
        "keyboard": "buttons:KeyboardStop",
        "gpio": "gpio:GpioStop",
    },
    __name__,
)


def make_stop_input(config: StopInputConfig) -> StopInput:
    """Build a stop input without opening it; its options are checked.

    Raises:
        ValueError: If there is no such driver or its options are wrong.
        ImportError: If the package it needs is not installed.
    """
    found = STOP_INPUTS.get(config.driver)
    refuse_no_class(found, STOP_INPUTS.noun, config.driver, ("open", "read", "close"))
    return found(config.options)


class StopInputs:
    """All stop inputs of a robot together: it may move while none of them objects.

    Args:
        robot: The robot.

    Raises:
        ValueError: If one is configured wrongly; the message names it.
    """

    def __init__(self, robot: RobotConfig) -> None:
        self._inputs: dict[str, StopInput] = {}
        for name, config in robot.stop_inputs.items():
            try:
                self._inputs[name] = make_stop_input(config)
            except ValueError as error:
                raise ValueError(f"robot.stop_inputs.{name}: {error}") from error

    def open(self) -> None:
        """Open all of them.

        Raises:
            ConnectionError: If one cannot be read; the robot is not touched then.
        """
        for name, one in self._inputs.items():
            try:
                one.open()
            except OSError as error:
                raise ConnectionError(f"stop input {name!r}: {error}") from error

    def read(self, now: float) -> Signal:
        """Why the robot may not move, empty if it may; and whether a reset was asked for.

        Args:
            now: Time [s].
        """
        problem, reset = "", False
        for name, one in self._inputs.items():
            try:
                signal = one.read(now)
            except OSError as error:
                # What cannot be read cannot stop anything any more.
                signal = Signal(str(error))
            reset = reset or signal.reset
            if signal.problem and not problem:
                problem = f"stop input {name!r}: {signal.problem}"
        return Signal(problem, reset and not problem)

    def close(self) -> None:
        """Close all of them."""
        for one in self._inputs.values():
            one.close()
