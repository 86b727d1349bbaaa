"""The one protocol that all cameras speak."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Picture(NamedTuple):
    """What a camera saw.

    Attributes:
        time: When it was exposed [s], on the control loop's clock.
        image: Red, green and blue, shape (height, width, 3), uint8.
    """

    time: float
    image: NDArray[np.uint8]


class Camera(Protocol):
    """Takes pictures by itself; whoever reads gets the newest one and never waits."""

    def open(self) -> None:
        """Start taking pictures; again after `close`, if the camera stopped giving any.

        Raises:
            OSError: If there is no such camera or another program has it.
            EOFError: If it will never give another picture.
        """
        ...

    def read(self) -> Picture | None:
        """The newest picture, however old; None before the first."""
        ...

    def close(self) -> None:
        """Stop; callable at any time, twice too."""
        ...
