"""Batches made ready by a thread of their own, while the model works on the ones before."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")
NUM_AHEAD = 2


class Prefetched(Generic[T]):
    """What `load` returns for each step, computed before it is asked for.

    Args:
        load: Makes the batch of a step; a function of the step alone, as it is called ahead of
            time and in another thread, though never twice at once.
        num_steps: Steps that there are.
    """

    def __init__(self, load: Callable[[int], T], num_steps: int) -> None:
        self._load, self._num_steps = load, num_steps
        self._thread: ThreadPoolExecutor | None = None
        self._ready: dict[int, Future[T]] = {}

    def __getitem__(self, step: int) -> T:
        """The batch of `step`; whatever `load` raised is raised here."""
        if self._thread is None:
            return self._load(step)
        wanted = range(step, max(step + 1, min(step + 1 + NUM_AHEAD, self._num_steps)))
        ready = {later: self._ready.get(later) for later in wanted}
        self._ready = {
            later: future or self._thread.submit(self._load, later)
            for later, future in ready.items()
        }
        return self._ready.pop(step).result()

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        """Context with the thread; outside of it, batches are made when they are asked for."""
        thread = self._thread = ThreadPoolExecutor(1, "batches")
        try:
            yield
        finally:
            thread.shutdown(cancel_futures=True)
            self._thread, self._ready = None, {}
