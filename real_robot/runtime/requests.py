"""What the operator asks the loop for, with the assurance that a stop is never missed."""

from __future__ import annotations

from ..core.events import Request
from .channels import Channels


class Requests:
    """The operator's requests as the loop reads them, the newest once in a cycle.

    Args:
        channels: Of the run.
    """

    def __init__(self, channels: Channels) -> None:
        self._slot, self._num_stops = channels.request, 0

    def read(self) -> Request:
        """What was asked for since the previous call; a stop if one was among it.

        Somebody in a hurry presses other keys after it, within one cycle.
        """
        asked = self._slot.read_new()
        if asked is None:
            return Request.NONE
        request, num_stops = Request(int(asked["request"])), int(asked["stops"])
        stopped, self._num_stops = num_stops > self._num_stops, num_stops
        return Request.STOP if stopped and request is not Request.RELEASE else request
