"""Pictures of an episode, encoded as they come: a video, or a PNG each."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from ...decoding.plumbing.extras import require
from ..data.formats.lerobot.cells import encode_png
from ..data.formats.lerobot.statistics import QUANTILES

Encoding = Literal["video", "png"]
CODEC = "libx264"
# Every second frame can be decoded by itself, as training reads them in any order.
_OPTIONS = {"crf": "18", "g": "2", "bf": "0", "preset": "veryfast"}
_PIXELS = 10_000  # of each picture that the statistics look at


class PictureWriter(Protocol):
    """Takes the pictures of one camera in one episode."""

    def add(self, image: np.ndarray) -> None:
        """Take the next picture, shape (height, width, 3), uint8."""
        ...

    def finish(self) -> Path | list[bytes]:
        """The video, or the encoded pictures."""
        ...

    def discard(self) -> None:
        """Forget them."""
        ...


class VideoWriter:
    """Encodes a video as LeRobot wants it: frame k at k / fps.

    Args:
        path: File to write.
        fps: Frames per second [Hz].
        size: Height and width [px].

    Raises:
        OSError: From all methods, if the file cannot be written.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self._av, self._path, self._count = require("av", "lerobot"), path, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors():
            self._container = self._av.open(str(path), "w")
            rate = Fraction(fps).limit_denominator(1000)
            self._stream: Any = self._container.add_stream(CODEC, rate=rate, options=_OPTIONS)
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = pixel_format(size)
        # The control loop beside it needs a core for itself.
        self._stream.codec_context.thread_count = 1
        self._stream.codec_context.time_base = self._tick = 1 / rate

    def add(self, image: np.ndarray) -> None:
        """Encode a picture."""
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = self._count, self._tick
        self._count += 1
        with self._errors():
            self._container.mux(self._stream.encode(frame))

    def finish(self) -> Path:
        """Close the file."""
        with self._errors():
            self._container.mux(self._stream.encode(None))
            self._container.close()
        return self._path

    def discard(self) -> None:
        """Close and remove the file."""
        with self._errors():
            self._container.close()
        self._path.unlink(missing_ok=True)

    @contextmanager
    def _errors(self) -> Generator[None, None, None]:
        try:
            yield
        except self._av.error.FFmpegError as error:
            raise OSError(f"{self._path} cannot be written: {error}") from error


class PngWriter:
    """Encodes pictures one by one, without loss."""

    def __init__(self) -> None:
        self._pictures: list[bytes] = []

    def add(self, image: np.ndarray) -> None:
        """Encode a picture."""
        self._pictures.append(encode_png(image))

    def finish(self) -> list[bytes]:
        """All of them."""
        return self._pictures

    def discard(self) -> None:
        """Forget them."""
        self._pictures = []


class PictureStatistics:
    """Statistics of one camera's pictures, as LeRobot has them, while they go by."""

    def __init__(self) -> None:
        self._counts = np.zeros((3, 256), np.int64)
        self._num_pictures = 0

    def add(self, image: np.ndarray) -> None:
        """Count the values of some of a picture's pixels."""
        stride = max(int(np.sqrt(image.shape[0] * image.shape[1] / _PIXELS)), 1)
        pixels = image[::stride, ::stride].reshape(-1, 3)
        for channel in range(3):
            self._counts[channel] += np.bincount(pixels[:, channel], minlength=256)
        self._num_pictures += 1

    def result(self) -> dict[str, Any]:
        """Range, mean, deviation and quantiles of each channel, from 0 to 1."""
        values = np.arange(256) / 255
        shares = self._counts / self._counts.sum(axis=1, keepdims=True)
        mean = shares @ values
        below = np.cumsum(shares, axis=1)
        numbers = {
            "min": [values[np.flatnonzero(row)[0]] for row in self._counts],
            "max": [values[np.flatnonzero(row)[-1]] for row in self._counts],
            "mean": mean,
            "std": np.sqrt(np.maximum(shares @ values**2 - mean**2, 0)),
        }
        for name, share in QUANTILES.items():
            numbers[name] = [values[min(np.searchsorted(row, share), 255)] for row in below]
        result: dict[str, Any] = {
            name: np.asarray(found, np.float64).reshape(3, 1, 1).tolist()
            for name, found in numbers.items()
        }
        result["count"] = [self._num_pictures]
        return result


def pixel_format(size: tuple[int, int]) -> str:
    """Colours at half the resolution, as all players know it, where the size is even."""
    return "yuv420p" if size[0] % 2 == size[1] % 2 == 0 else "yuv444p"


def declare_pictures(size: tuple[int, int], fps: float, encoding: Encoding) -> dict[str, Any]:
    """What ``meta/info.json`` says of a camera."""
    height, width = size
    axes = ["height", "width", "channels"]
    declared = {"dtype": "image", "shape": [height, width, 3], "names": axes, "fps": fps}
    if encoding == "png":
        return declared
    about = {
        "video.height": height, "video.width": width, "video.codec": "h264",
        "video.pix_fmt": pixel_format(size), "video.is_depth_map": False, "video.fps": fps,
        "video.channels": 3, "has_audio": False,
    }  # fmt: skip
    return {**declared, "dtype": "video", "info": about}
