"""An open bus of servos, for looking and setting up; nothing is written by opening it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from .servo_bus import PROTOCOLS, DynamixelBus, FeetechBus
from .servo_options import ServoOptions

LAST_SCANNED = 20  # ID; servos come as 1, and few arms have more

Bus = DynamixelBus | FeetechBus


@contextmanager
def opened(driver: str, options: ServoOptions) -> Generator[Bus, None, None]:
    """Context of an open bus.

    Args:
        driver: Name of the servo family.
        options: Port, servos, baud rate and patience.

    Raises:
        ConnectionError: If the port is not there, or another program has it.
    """
    bus = PROTOCOLS[driver](options.port, options.ids, options.baud, options.reply_timeout)
    bus.open()
    try:
        yield bus
    finally:
        bus.close()
