"""The one protocol of everything that stops a robot besides the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol


class Signal(NamedTuple):
    """What a stop input says.

    Attributes:
        problem: Why the robot may not move, empty if it may.
        reset: Whether somebody asked, since the previous reading, for the stop to be reset, or for
            the robot to be armed again once it was.
    """

    problem: str
    reset: bool = False


class StopInput(Protocol):
    """A dead-man switch, an emergency stop, or a heartbeat; built from its options.

    It is read in every cycle of the control loop.
    """

    def open(self) -> None:
        """Begin to listen; raises OSError if that cannot be done, and nothing moves then."""
        ...

    def read(self, now: float) -> Signal:
        """What it says at the time `now` [s]; never waits. An OSError means that it is lost."""
        ...

    def close(self) -> None:
        """Close; callable at any time, twice too."""
        ...


def hold_and_stop(options: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """What is held in order to move, pressed in order to stop, and pressed in order to go on.

    Raises:
        ValueError: If there is neither of the first two, or if two of them are the same.
    """
    chosen = [options.get(name) for name in ("hold", "stop", "reset")]
    if chosen[0] is None and chosen[1] is None:
        raise ValueError("give hold=…, what is held while the robot may move, or stop=…, or both")
    given = [one for one in chosen if one is not None]
    if len(set(given)) < len(given):
        raise ValueError(f"hold, stop and reset must differ, got {given}")
    return chosen[0], chosen[1], chosen[2]
