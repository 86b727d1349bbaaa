"""An emulated tracker: sends the poses of the scene's objects over UDP."""

from __future__ import annotations

import socket

from .plant import Plant

PERIOD = 0.01  # [s]


class SceneSender:
    """Sends the scene's joints a hundred times a second, a context.

    Args:
        plant: The simulation.
        port: UDP port on this machine, 0 to send nothing.
    """

    def __init__(self, plant: Plant, port: int) -> None:
        self._plant, self._port, self._due = plant, port, 0.0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def __enter__(self) -> SceneSender:
        """The sender itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, now: float) -> None:
        """Send if it is time."""
        if self._port and now >= self._due:
            self._due = now + PERIOD
            self._socket.sendto(
                self._plant.sensors.astype("<f8").tobytes(), ("127.0.0.1", self._port)
            )
