"""The one protocol that all cameras speak."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ...decoding.pictures import picture_problem


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


def check_picture(name: str, picture: Picture, size: tuple[int, int]) -> None:
    """Raise ValueError unless a camera gave what its configuration says.

    Args:
        name: The camera's.
        picture: What it gave.
        size: Height and width [px].
    """
    image = np.asarray(picture.image)
    if problem := picture_problem(image.shape, image.dtype, (*size, 3)):
        raise ValueError(f"the picture of camera {name!r} {problem}")
