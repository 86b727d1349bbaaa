"""A camera, or a video file in its place, through OpenCV."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...decoding.plumbing.extras import require
from ..config import CameraConfig
from ..core.events import RobotState
from ..drivers.driver import check_options
from .camera import Picture

CLOSING = 1.0  # [s]
FIRST_PICTURE = 5.0  # [s]; a camera needs a moment to set its exposure


class OpenCvCamera:
    """Takes pictures as fast as the device gives them, in a thread of its own.

    A video file is played at its own pace; at its end the last picture stays and grows old, and it
    cannot be opened again.

    Args:
        config: Options: ``source``, number of a device or path of a device or video file; ``fps``,
            ``height`` and ``width`` to ask of a device. Pictures of another size than the
            camera's ``size`` are scaled to it.
        state: Not needed.
        monotonic: The control loop's clock [s].
    """

    def __init__(
        self,
        config: CameraConfig,
        state: Callable[[], RobotState | None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        del state
        known = {"source": object, "fps": float, "height": int, "width": int}
        check_options(config.options, known, "camera")
        source = config.options.get("source", "")
        is_number = isinstance(source, int) and not isinstance(source, bool) and source >= 0
        if not (is_number or (isinstance(source, str) and source)):
            raise ValueError(
                "camera opencv needs the option source, number of a device or path, e.g. "
                f"options.source=0, got {source!r}"
            )
        for name in known.keys() - {"source"} & config.options.keys():
            if not 0 < config.options[name] < float("inf"):
                raise ValueError(
                    f"camera option {name} must be positive, got {config.options[name]}"
                )
        self._cv2 = require("cv2", "camera")
        self._config, self._monotonic = config, monotonic
        self._newest: Picture | None = None
        self._ending = threading.Event()
        self._first = threading.Event()
        self._is_file = isinstance(source, str) and Path(source).is_file()
        self._ended = False
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Open the device and wait for its first picture."""
        cv2, options = self._cv2, self._config.options
        source = options["source"]
        if self._ended and self._is_file:
            raise EOFError(f"the video file {source} has ended")
        if self._thread is not None and self._thread.is_alive():
            raise ConnectionError(f"camera {source!r} does not answer")
        self._ending.clear()
        self._first.clear()
        capture = cv2.VideoCapture(source)
        if not capture.isOpened():
            raise ConnectionError(f"camera {source!r} cannot be opened; is it in use elsewhere?")
        asked = {"fps": cv2.CAP_PROP_FPS, "height": cv2.CAP_PROP_FRAME_HEIGHT,
                 "width": cv2.CAP_PROP_FRAME_WIDTH}  # fmt: skip
        for name, key in asked.items():
            if name in options:
                capture.set(key, float(options[name]))
        # A device waits for its next picture; a file has to be told how long one is.
        pause = 1 / (capture.get(cv2.CAP_PROP_FPS) or 30.0) if self._is_file else 0.0
        self._thread = threading.Thread(target=self._take, args=(capture, pause), daemon=True)
        self._thread.start()
        if not self._first.wait(FIRST_PICTURE) or self._newest is None:
            self.close()
            raise ConnectionError(f"camera {source!r} gives no picture")

    def read(self) -> Picture | None:
        """The newest picture."""
        return self._newest

    def close(self) -> None:
        """Stop and release the device."""
        self._ending.set()
        if self._thread is not None:
            # A device that hangs in the middle of a picture must not hang its user.
            self._thread.join(CLOSING)

    def _take(self, capture: Any, pause: float) -> None:
        height, width = self._config.size
        due = self._monotonic()
        while not self._ending.is_set():
            good, blue_first = capture.read()
            if not good:
                self._ended = True
                break
            taken = self._monotonic() - self._config.latency
            if blue_first.shape[:2] != (height, width):
                blue_first = self._cv2.resize(
                    blue_first, (width, height), interpolation=self._cv2.INTER_AREA
                )
            self._newest = Picture(taken, np.ascontiguousarray(blue_first[..., ::-1]))
            self._first.set()
            due += pause
            self._ending.wait(max(due - self._monotonic(), 0.0))
        self._first.set()
        capture.release()
