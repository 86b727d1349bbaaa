"""Videos of LeRobotDataset v3.0, decoded frame by frame as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from .....decoding.plumbing.extras import require
from .....decoding.plumbing.files import lfs_message
from ...pointers import is_pointer
from .metadata import Feature


@dataclass(frozen=True)
class _Place:
    """Where the pictures of one episode are."""

    episode: int
    steps: slice
    path: Path | None
    start: float  # [s] in the video


class VideoArray:
    """One camera of all episodes, shape (T, height, width, 3), uint8.

    Several episodes share an mp4; ``from_timestamp`` [s] says where an episode begins in it. A
    step's picture is the frame nearest to its time; where a frame was dropped, that is a neighbour.

    Args:
        root: Folder of the dataset.
        video_path: Template of the videos' paths.
        period: Time between two steps [s].
        feature: The camera.
        episodes: Rows of ``meta/episodes``.
        times: Returns the time of each step since its episode's start [s], shape (T,).
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        root: Path,
        video_path: str,
        period: float,
        feature: Feature,
        episodes: Sequence[Mapping[str, Any]],
        times: Callable[[], np.ndarray],
    ) -> None:
        self._root, self._name, self._period = root, feature.name, period
        self._feature, self._times = feature, times
        self._places = [self._place(video_path, row) for row in episodes]
        self._videos: dict[Path, _Video] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """Steps, and the size of the first video's pictures; the declared one without a video."""
        return self._shape

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        num_steps = max((place.steps.stop for place in self._places), default=0)
        declared = (num_steps, *self._feature.picture_shape)
        for place in self._places:
            if place.path is not None and place.path.exists() and not is_pointer(place.path):
                try:
                    return (num_steps, *self._video(place.path).size, 3)
                except (ImportError, ValueError):
                    return declared
        return declared

    @cached_property
    def faults(self) -> tuple[str, ...]:
        """Videos that are not there, one sentence for each file."""
        return tuple(self._find_faults())

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Decode some frames; neighbouring frames of an episode are decoded in one go."""
        start, stop, _ = rows.indices(self.shape[0])
        pieces = []
        for place in self._places:
            first, last = max(start, place.steps.start), min(stop, place.steps.stop)
            if first < last and place.path is not None:
                video = self._video(place.path)
                indices, distance = video.nearest(self._moments(place)[first - place.steps.start :])
                self._check(place, distance[: last - first])
                pieces.append(video.decode(indices[: last - first]))
        if other := [piece.shape[1:] for piece in pieces if piece.shape[1:] != self.shape[1:]]:
            raise ValueError(f"a video has pictures of {other[0]}, the first {self.shape[1:]}")
        return np.concatenate(pieces) if pieces else np.empty((0, *self.shape[1:]), np.uint8)

    def off_steps(self) -> int:
        """Steps without a frame of their own time: none within half a period.

        Raises:
            ValueError: If a video cannot be read.
        """
        count = 0
        for place in self._places:
            if not _is_absent(place.path) and place.path is not None:
                _, distance = self._video(place.path).nearest(self._moments(place))
                count += int((distance > 0.5 * self._period * (1 + 1e-3)).sum())
        return count

    def _moments(self, place: _Place) -> np.ndarray:
        """Times in the video [s] at which the pictures of an episode were taken."""
        return place.start + self._times()[place.steps]

    def _check(self, place: _Place, distance: np.ndarray) -> None:
        if (distance > self._period * (1 + 1e-3)).any():
            step = int(np.argmax(distance > self._period * (1 + 1e-3)))
            raise ValueError(
                f"{place.path} has no picture for episode {place.episode} within "
                f"{distance[step]:.3g} s, where steps are {self._period:.3g} s apart: it ends too "
                "early, or frames are missing"
            )

    def _place(self, video_path: str, row: Mapping[str, Any]) -> _Place:
        prefix = f"videos/{self._name}/"
        chunk, file = row.get(prefix + "chunk_index"), row.get(prefix + "file_index")
        start = row.get(prefix + "from_timestamp")
        path = None
        if isinstance(chunk, int) and isinstance(file, int) and isinstance(start, (int, float)):
            path = self._root / video_path.format(
                video_key=self._name, chunk_index=chunk, file_index=file
            )
        steps = slice(row["dataset_from_index"], row["dataset_to_index"])
        return _Place(row["episode_index"], steps, path, float(start or 0))

    def _video(self, path: Path) -> _Video:
        if path not in self._videos:
            self._videos[path] = _Video(path)
        return self._videos[path]

    def _find_faults(self) -> Iterator[str]:
        for path, group in groupby(self._places, key=lambda place: place.path):
            episodes = [place.episode for place in group]
            which = f"episodes {episodes[0]} to {episodes[-1]}"
            if len(episodes) == 1:
                which = f"episode {episodes[0]}"
            if path is None:
                yield f"meta/episodes does not say where the video {self._name!r} of {which} is"
            elif is_pointer(path):
                yield lfs_message(path.relative_to(self._root))
            elif not path.exists():
                name = path.relative_to(self._root).as_posix()
                yield f"{name} is absent: there are no pictures {self._name!r} of {which}"


class _Video:
    """One mp4 and the times of its frames.

    Raises:
        ValueError: If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._av = path, require("av", "lerobot")
        with self._open() as container:
            stream = container.streams.video[0]
            self.size = (stream.height, stream.width)
            self._time_base = float(stream.time_base)
            found = {packet.pts for packet in container.demux(stream) if packet.pts is not None}
        if not found:
            raise ValueError(f"{path} holds no pictures")
        self._pts = np.array(sorted(found))

    def nearest(self, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Index of the frame nearest to each moment [s], and how far it is [s]."""
        times = self._pts * self._time_base
        after = np.clip(np.searchsorted(times, moments), 1, max(1, len(times) - 1))
        before = after - 1
        after = np.minimum(after, len(times) - 1)
        is_before = moments - times[before] <= times[after] - moments
        index = np.where(is_before, before, after)
        return index, np.abs(times[index] - moments)

    def decode(self, indices: np.ndarray) -> np.ndarray:
        """Frames of some indices, in any order, shape (len(indices), height, width, 3)."""
        wanted = {int(self._pts[index]) for index in indices}
        found: dict[int, np.ndarray] = {}
        with self._open() as container:
            stream = container.streams.video[0]
            # Seeking goes back to the last key frame before the time.
            container.seek(min(wanted), stream=stream)
            for frame in container.decode(stream):
                if frame.pts in wanted:
                    found[frame.pts] = frame.to_ndarray(format="rgb24")
                    if len(found) == len(wanted):
                        break
        if missing := wanted - set(found):
            raise ValueError(f"{self._path}: {len(missing)} frames cannot be decoded")
        return np.stack([found[int(self._pts[index])] for index in indices])

    def _open(self) -> Any:
        return _Container(self._av, self._path)


class _Container:
    """Context of an open video, whose decoder's errors become one ValueError."""

    def __init__(self, av: Any, path: Path) -> None:
        self._av, self._path, self._container = av, path, None

    def __enter__(self) -> Any:
        try:
            self._container = self._av.open(str(self._path))
            if not self._container.streams.video:
                raise ValueError("it has no video stream")
        except Exception as error:
            raise ValueError(f"{self._path} cannot be opened: {error}") from error
        return self._container

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        del kind, trace
        if self._container is not None:
            self._container.close()
        if isinstance(error, Exception) and not isinstance(error, ValueError):
            raise ValueError(f"{self._path} cannot be decoded: {error}") from error


def _is_absent(path: Path | None) -> bool:
    return path is None or not path.exists() or is_pointer(path)
