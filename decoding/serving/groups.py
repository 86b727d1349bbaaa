"""Requests that come together are answered together, in the one thread that runs the policy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import NamedTuple

from .metrics import Metrics
from .rows import Answer, Rows, Work


class Timed(NamedTuple):
    """An answer, and how long its request waited for the policy [s]."""

    answer: Answer
    queue_s: float


class _Waiting(NamedTuple):
    work: Work
    since: float
    done: asyncio.Future[Timed]


class Groups:
    """Takes requests in an event loop, which never computes, and answers them in a thread.

    What comes while the policy is busy shares its next forward; a request that finds it idle waits
    for those of the other robots no longer than `wait`.

    Args:
        rows: What answers.
        wait: How long to wait for others [s].
        num_connected: Tells how many robots may ask.
        metrics: Where times and sizes are counted.
    """

    def __init__(
        self, rows: Rows, wait: float, num_connected: Callable[[], int], metrics: Metrics
    ) -> None:
        self._rows, self._wait, self._num_connected = rows, wait, num_connected
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, "policy")
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Waiting] = []
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None

    async def ask(self, work: Work) -> Timed:
        """Answer a request.

        Raises:
            Exception: Whatever the policy raised.
        """
        waiting = _Waiting(work, perf_counter(), self._loop.create_future())
        self._waiting.append(waiting)
        self._consider()
        return await waiting.done

    def close(self) -> None:
        """End the thread after what it computes now."""
        self._thread.shutdown()

    def _consider(self) -> None:
        """Start the policy on what waits, unless it is busy or others may join soon."""
        if self._busy or not self._waiting:
            return
        if not self._wait or len(self._waiting) >= self._num_connected():
            self._start()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._wait, self._start)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        group, self._waiting, self._busy = self._waiting, [], True
        works = [one.work for one in group]
        computed = self._loop.run_in_executor(self._thread, self._compute, works)
        computed.add_done_callback(lambda done: self._finish(group, done.result()))

    def _compute(self, works: list[Work]) -> tuple[float, float, list[Answer | Exception]]:
        begin = perf_counter()
        answers = self._rows.compute(works)  # never raises: it would keep everybody waiting
        return begin, perf_counter() - begin, answers

    def _finish(
        self, group: list[_Waiting], computed: tuple[float, float, list[Answer | Exception]]
    ) -> None:
        begin, duration, answers = computed
        self._metrics.infer.add(duration)
        self._metrics.group.add(len(group))
        for one, answer in zip(group, answers, strict=True):
            queue_s = begin - one.since
            self._metrics.queued.add(queue_s)
            if one.done.cancelled():
                continue
            if isinstance(answer, Exception):
                one.done.set_exception(answer)
            else:
                one.done.set_result(Timed(answer, queue_s))
        self._busy = False
        self._consider()
