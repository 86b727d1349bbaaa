"""Frames of one episode at a steady rate, whatever the moments they were measured at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.formats.lerobot.grow import NewEpisode
from .pictures import Encoding, PictureStatistics, PictureWriter, PngWriter, VideoWriter

MEASURED_AT, FILLED = "info.measured_at", "info.filled"
INTERVENTION = "intervention"
STATE, ACTION = "observation.state", "action"
_ENDS = ("next.done", "next.truncated")


class Frame(NamedTuple):
    """What was measured at one time, and what the robot was told.

    Attributes:
        time: When the robot was measured [s], on any steady clock.
        numbers: One row of each column of numbers, without ``action`` if the action of this frame
            is the state of the next one.
        pictures: Of each camera's feature, shape (height, width, 3), uint8.
        intervention: Whether a person was in command.
    """

    time: float
    numbers: Mapping[str, np.ndarray]
    pictures: Mapping[str, np.ndarray]
    intervention: bool = False


class EpisodeBuilder:
    """Turns frames that come about once a period into an episode with a frame each period.

    Frame k of the episode is the one that was measured nearest to k periods after the first. Where
    frames did not come in time, those between are filled in: numbers on a line, the pictures of the
    next frame; a column says where.

    Args:
        period: Time between two frames [s].
        encoding: What becomes of the pictures.
        folder: Where videos are made.
    """

    def __init__(self, period: float, encoding: Encoding, folder: Path) -> None:
        self._period, self._encoding, self._folder = period, encoding, folder
        self._start, self._last = 0.0, None
        self._columns: dict[str, list[Any]] = {}
        self._writers: dict[str, PictureWriter] = {}
        self._statistics: dict[str, PictureStatistics] = {}
        self.num_frames = self.num_filled = 0
        self._last: Frame | None = None

    def add(self, frame: Frame) -> None:
        """Take a frame; one that comes before the next is due is left out."""
        last = self._last
        if last is None:
            self._start = frame.time
            self._append(frame, filled=False)
        else:
            number = round((frame.time - self._start) / self._period)
            num_missed = number - self.num_frames
            if num_missed < 0:
                return
            for missed in range(1, num_missed + 1):
                share = missed / (num_missed + 1)
                self._append(_between(last, frame, share), filled=True)
            self._append(frame, filled=False)
        self._last = frame

    def _append(self, frame: Frame, *, filled: bool) -> None:
        numbers = {name: np.array(row) for name, row in frame.numbers.items()}
        numbers[MEASURED_AT] = numbers[MEASURED_AT] - self._start
        numbers[INTERVENTION] = np.array(frame.intervention)
        numbers[FILLED] = np.array(filled)
        for name, row in numbers.items():
            self._columns.setdefault(name, []).append(row)
        for name, image in frame.pictures.items():
            if name not in self._writers:
                self._writers[name] = self._writer(name, image)
                self._statistics[name] = PictureStatistics()
            self._writers[name].add(image)
            self._statistics[name].add(image)
        self.num_frames += 1
        self.num_filled += filled

    def _writer(self, name: str, image: np.ndarray) -> PictureWriter:
        if self._encoding == "png":
            return PngWriter()
        height, width = image.shape[:2]
        return VideoWriter(self._folder / f"{name}.mp4", 1 / self._period, (height, width))

    def finish(self, task: str, *, truncated: bool) -> NewEpisode:
        """The episode.

        Args:
            task: What the robot was asked to do.
            truncated: Whether it was cut off, not ended because it was done.
        """
        columns: dict[str, Any] = {
            name: _stacked(name, rows) for name, rows in self._columns.items()
        }
        if ACTION not in columns:
            # Where the robot was led to: where it was one frame later.
            state = columns[STATE]
            columns[ACTION] = np.concatenate([state[1:], state[-1:]])
        for name, value in zip(_ENDS, (True, truncated), strict=True):
            columns[name] = np.zeros(self.num_frames, bool)
            columns[name][-1] = value
        pictures = {name: writer.finish() for name, writer in self._writers.items()}
        videos = {name: file for name, file in pictures.items() if isinstance(file, Path)}
        columns |= {name: found for name, found in pictures.items() if name not in videos}
        statistics = {name: found.result() for name, found in self._statistics.items()}
        return NewEpisode(columns, task, videos, statistics)

    def discard(self) -> None:
        """Forget it."""
        for writer in self._writers.values():
            writer.discard()


def _between(before: Frame, after: Frame, share: float) -> Frame:
    """Part of the way between two frames."""
    numbers = {
        name: (1 - share) * np.asarray(before.numbers[name]) + share * np.asarray(row)
        for name, row in after.numbers.items()
    }
    time = (1 - share) * before.time + share * after.time
    return Frame(time, numbers, after.pictures, after.intervention)


def _stacked(name: str, rows: list[Any]) -> np.ndarray:
    array = np.stack(rows)
    return array if array.dtype == bool else array.astype(np.float32)
