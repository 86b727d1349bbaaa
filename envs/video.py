"""A video of the first episodes of an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MAX_FPS = 25


class Video:
    """Collects pictures of the first episodes and writes them, one after the other, as one mp4.

    It plays in real time; tasks with more than 25 control steps a second are thinned out.

    Args:
        path: The mp4 file to write.
        num_episodes: How many episodes to show.

    Raises:
        ValueError: If the path is no mp4 file or no episode is asked for.
        ImportError: If imageio is not installed.
    """

    def __init__(self, path: str | Path, num_episodes: int = 1) -> None:
        self.path = Path(path)
        self.num_episodes = num_episodes
        if self.path.suffix != ".mp4":
            raise ValueError(f"a video is written as .mp4, got {str(path)!r}")
        if num_episodes < 1:
            raise ValueError(f"a video needs at least 1 episode, got num_episodes={num_episodes}")
        _import_imageio()  # to fail before the evaluation and not after it
        self._pictures: list[list[np.ndarray]] = [[] for _ in range(num_episodes)]

    def capture(
        self, render: Callable[[], np.ndarray], episode_ix: int, step: int, dt: float
    ) -> None:
        """Take a picture if the episode is shown and a picture is due at this step."""
        if episode_ix < self.num_episodes and step % _stride(dt) == 0:
            self._pictures[episode_ix].append(render())

    def write(self, dt: float) -> None:
        """Write the file; an existing one is replaced only when the new one is complete."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial.mp4")
        fps = 1 / (dt * _stride(dt))
        with _import_imageio().get_writer(partial, fps=fps, codec="libx264") as writer:
            for pictures in self._pictures:
                for picture in pictures:
                    writer.append_data(picture)
        partial.replace(self.path)


def _stride(dt: float) -> int:
    """Control steps per picture."""
    return max(1, round(1 / (MAX_FPS * dt)))


def _import_imageio() -> Any:
    try:
        import imageio.v2
        import imageio_ffmpeg  # noqa: F401 - the encoder
    except ImportError as error:
        raise ImportError(
            "a video needs imageio with ffmpeg: pip install 'hotloop[mujoco]' or 'hotloop[pusht]'"
        ) from error
    return imageio.v2
