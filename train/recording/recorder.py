"""Recording without anybody waiting for it: a thread encodes and writes."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from ...decoding.plumbing.files import scratch_folder
from ..data.formats.lerobot.grow import GrowingDataset, Header
from .episode import EpisodeBuilder, Frame
from .pictures import Encoding

_WAITING = 10.0  # [s] of frames that may wait to be encoded
_MOST_FILLED = 0.1  # of an episode's frames, before the operator is told to look


class _Keep(NamedTuple):
    task: str
    truncated: bool


class _Drop(NamedTuple):
    reason: str


class Recorder:
    """Records episodes into a dataset; use it in one thread and close it at the end.

    Args:
        path: Dataset, which may be there already; then it grows.
        header: What all episodes have in common.
        encoding: What becomes of the pictures.

    Raises:
        ValueError: If another process records into the dataset, or it does not fit the header.
        OSError: If nothing can be written there.
    """

    def __init__(self, path: Path, header: Header, encoding: Encoding) -> None:
        self._dataset = GrowingDataset(path, header)
        self._period = 1 / header.fps
        self._encoding: Encoding = encoding
        self._resources = ExitStack()
        self._resources.enter_context(_lock(path))
        self._folder = self._resources.enter_context(scratch_folder(path))
        self._queue: queue.Queue[Frame | _Keep | _Drop | None] = queue.Queue(
            int(_WAITING * header.fps) + 1
        )
        self._messages: deque[str] = deque()
        self._failure: OSError | None = None
        self._builder: EpisodeBuilder | None = None
        self.recording = self._finished = False
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    @property
    def num_episodes(self) -> int:
        """Episodes in the dataset."""
        return self._dataset.num_episodes

    def messages(self) -> list[str]:
        """What happened since the last call, for the operator.

        Raises:
            OSError: If the dataset could not be written.
        """
        if self._failure is not None:
            raise self._failure
        if not self._finished and not self._thread.is_alive():
            raise OSError("the recorder ended by an error of its own, see the messages above")
        return [self._messages.popleft() for _ in range(len(self._messages))]

    def add(self, frame: Frame) -> None:
        """Record a frame of the present episode, or begin one with it."""
        self.recording = True
        try:
            self._queue.put_nowait(frame)
        except queue.Full:
            self.drop("its pictures come faster than they can be encoded")

    def keep(self, task: str, *, truncated: bool) -> None:
        """End the episode; it will be in the dataset.

        Args:
            task: What the robot was asked to do.
            truncated: Whether it was cut off, not ended because it was done.
        """
        if self.recording:
            self.recording = False
            self._queue.put(_Keep(task, truncated))

    def drop(self, reason: str) -> None:
        """End the episode and forget it."""
        if self.recording:
            self.recording = False
            self._queue.put(_Drop(reason))

    def close(self) -> list[str]:
        """Wait until everything is written, and return the last messages.

        Raises:
            OSError: If the dataset could not be written.
        """
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._resources.close()
        return self.messages()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._failure is not None:
                continue
            try:
                self._do(item)
            except OSError as error:
                self._failure = error
        if self._builder is not None:
            self._builder.discard()
        self._finished = True

    def _do(self, item: Frame | _Keep | _Drop) -> None:
        if isinstance(item, Frame):
            if self._builder is None:
                self._builder = EpisodeBuilder(self._period, self._encoding, self._folder)
            self._builder.add(item)
            return
        builder, self._builder = self._builder, None
        if builder is None:
            return
        if isinstance(item, _Drop):
            builder.discard()
            self._messages.append(f"episode dropped: {item.reason}")
            return
        index = self._dataset.add(builder.finish(item.task, truncated=item.truncated))
        filled = f", {builder.num_filled} of them filled in" if builder.num_filled else ""
        if builder.num_filled > _MOST_FILLED * builder.num_frames:
            filled += " because plans took too long: better record it again"
        self._messages.append(
            f"episode {index} kept: {builder.num_frames} frames{filled}; "
            f"{self._dataset.num_episodes} in {self._dataset.path}"
        )


@contextmanager
def _lock(path: Path) -> Generator[None, None, None]:
    """Context in which no other process records into a dataset; a killed one is no hindrance."""
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".lock-{path.name}"), timeout=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout:
        if not Path(lock.lock_file).exists():
            raise OSError(f"nothing can be written into {path.parent}") from None
        raise ValueError(
            f"another process is recording into {path}; wait for it, or record into another folder"
        ) from None
    try:
        yield
    finally:
        # While it is held: who waits for this file sees that it has gone, and makes a new one.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
