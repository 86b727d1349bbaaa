"""Videos of LeRobotDataset v3.0, decoded frame by frame as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


class VideoArray:
    """One camera of all episodes, shape (T, height, width, 3), uint8.

    Several episodes share an mp4; ``from_timestamp`` [s] says where an episode begins in it.

    Args:
        root: Folder of the dataset.
        info: Content of ``meta/info.json``.
        name: The feature.
        episodes: Rows of ``meta/episodes``.
        num_frames: Frames T of all episodes.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        root: Path,
        info: Mapping[str, Any],
        name: str,
        episodes: Sequence[Mapping[str, Any]],
        num_frames: int,
    ) -> None:
        self._root, self._info, self._name, self._episodes = root, info, name, episodes
        self.shape = (num_frames, *info["features"][name]["shape"])

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Decode some frames; neighbouring frames of an episode are decoded in one go."""
        start, stop, _ = rows.indices(self.shape[0])
        pieces = []
        for episode in self._episodes:
            begin, end = episode["dataset_from_index"], episode["dataset_to_index"]
            first, last = max(start, begin) - begin, min(stop, end) - begin
            if first < last:
                pieces.append(self._decode(episode, first, last))
        return np.concatenate(pieces) if pieces else np.empty((0, *self.shape[1:]), np.uint8)

    def _decode(self, episode: Mapping[str, Any], first: int, last: int) -> np.ndarray:
        prefix = f"videos/{self._name}/"
        path = self._root / self._info["video_path"].format(
            video_key=self._name,
            chunk_index=episode[prefix + "chunk_index"],
            file_index=episode[prefix + "file_index"],
        )
        start = episode[prefix + "from_timestamp"] + first / self._info["fps"]
        frames = []
        with _import_av(self._name).open(str(path)) as container:
            for frame in _frames_from(container, start, tolerance=0.5 / self._info["fps"]):
                frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == last - first:
                    return np.stack(frames)
        raise ValueError(
            f"{path} ends {last - first - len(frames)} frames before episode "
            f"{episode['episode_index']} does"
        )


def _frames_from(container: Any, start: float, tolerance: float) -> Iterator[Any]:
    """Yield the frames whose time [s] is not before `start`."""
    stream = container.streams.video[0]
    # Seeking goes back to the last key frame before the time.
    container.seek(max(0, int(start / stream.time_base)), stream=stream)
    for frame in container.decode(stream):
        if frame.time is not None and frame.time >= start - tolerance:
            yield frame


def _import_av(name: str) -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError(
            f"{name!r} is a video; decoding it needs: pip install 'hotloop[lerobot]'"
        ) from error
    return av
