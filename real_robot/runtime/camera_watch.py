"""Fresh pictures from several cameras: one that stops is named, opened again, or given up.

One that gives something else than it was configured for ends the run: nothing is planned from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ..cameras import Camera, Picture
from ..cameras.camera import check_picture

LOST_AFTER = 1.0  # [s] without a fresh picture, a camera counts as lost
RETRY_PERIOD = 1.0  # [s]
GIVE_UP_AFTER = 10.0  # [s]


class CameraWatch:
    """Reads cameras, and opens those again that give no fresh picture any more.

    Args:
        cameras: The cameras by name, open.
        sizes: Height and width of their pictures [px].
        max_age: How old a picture may be [s].
        tell: Takes which cameras are lost, in one sentence; an empty one when all are back.
        monotonic: Clock [s].
    """

    def __init__(
        self,
        cameras: Mapping[str, Camera],
        sizes: Mapping[str, tuple[int, int]],
        max_age: float,
        tell: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cameras, self._sizes = cameras, sizes
        self._max_age, self._tell = max_age, tell
        self._monotonic = monotonic
        self._fresh_at: dict[str, float] = {}
        self._retry_at: dict[str, float] = {}
        self._told = ""

    def read(self) -> dict[str, Picture | None]:
        """The newest picture of each camera, however old; None before its first.

        Raises:
            ValueError: If one is of another size or type than its camera's configuration says.
        """
        pictures = {name: camera.read() for name, camera in self._cameras.items()}
        for name, picture in pictures.items():
            if picture is not None:
                check_picture(name, picture, self._sizes[name])
        return pictures

    def fresh(self, pictures: Mapping[str, Picture | None], now: float) -> dict[str, Picture]:
        """The pictures, or none of them while one camera has no fresh one.

        Args:
            pictures: What `read` returned.
            now: When the robot was measured [s].

        Raises:
            ConnectionError: If a camera stays lost, or will never give another picture.
        """
        clock = self._monotonic()
        good = {
            name: picture
            for name, picture in pictures.items()
            if picture is not None and now - picture.time <= self._max_age
        }
        for name in pictures:
            if name in good or name not in self._fresh_at:
                self._fresh_at[name] = self._retry_at[name] = clock
        lost = {name for name, since in self._fresh_at.items() if clock - since > LOST_AFTER}
        self._report(lost)
        for name in lost:
            self._open_again(name, clock)
        return good if len(good) == len(pictures) else {}

    def _report(self, lost: set[str]) -> None:
        cameras = " and ".join(f"camera {name!r}" for name in sorted(lost))
        text = f"no pictures from {cameras}; trying to open it again" if lost else ""
        if text != self._told:
            self._told = text
            self._tell(text)

    def _open_again(self, name: str, clock: float) -> None:
        silence = clock - self._fresh_at[name]
        if silence > GIVE_UP_AFTER:
            raise ConnectionError(f"camera {name!r} gave no fresh picture for {silence:.0f} s")
        if clock - self._retry_at[name] < RETRY_PERIOD:
            return
        camera = self._cameras[name]
        camera.close()
        try:
            camera.open()
        except EOFError as error:
            raise ConnectionError(f"camera {name!r} gives no pictures any more: {error}") from error
        except OSError:
            # It may come back; `GIVE_UP_AFTER` bounds how often this is tried.
            pass
        self._retry_at[name] = self._monotonic()
