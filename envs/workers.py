"""The environments of an evaluation side by side, in this process or in several."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import numpy as np

from .task import DrawsOnDemand, Environment, Task

Frame = dict[str, np.ndarray]
_PATIENCE = 5.0  # [s], for processes to end by themselves


class Step(NamedTuple):
    """What an action led to: see `Environment.step`, and the outcome of the episode so far."""

    frame: Frame
    reward: float
    done: bool
    score: float
    success: bool


class Environments(Protocol):
    """Environments known by their number, which counts from 0."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Frame]:
        """Start episodes, given their seeds by environment; return their first frames."""
        ...

    def step(
        self, actions: Mapping[int, np.ndarray], unread: Collection[int] = ()
    ) -> dict[int, Step]:
        """Apply actions, shape (D,) each, by environment.

        Args:
            actions: What each environment does.
            unread: Environments whose next pictures nobody reads, see `DrawsOnDemand`.
        """
        ...

    def render(self, number: int) -> np.ndarray:
        """Picture of one environment, see `Environment.render`."""
        ...


@contextlib.contextmanager
def environments(task: Task, num_envs: int, num_workers: int = 0) -> Iterator[Environments]:
    """Context of environments of a task, which are released at its end.

    Args:
        task: What to start.
        num_envs: How many environments.
        num_workers: Processes that share them, where simulating or drawing takes long; 0 for this
            one. What happens in an environment does not depend on it. A script that asks for some
            must have its code under ``if __name__ == "__main__"``.

    Raises:
        ValueError: If the numbers are none, or the task cannot be started in another process.
        ImportError: If the simulator is not installed.
        ChildProcessError: If a process ends before its time.
    """
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    if num_workers < 0:
        raise ValueError(f"num_workers must be 0 (this process) or more, got {num_workers}")
    with contextlib.ExitStack() as stack:
        if num_workers == 0:
            yield _Local(task.make, num_envs, stack)
        else:
            _check_importable(task)
            yield _Shared(task, num_envs, min(num_workers, num_envs), stack)


class _Local:
    """Environments of this process."""

    def __init__(
        self, make: Callable[[], Environment], num_envs: int, stack: contextlib.ExitStack
    ) -> None:
        self._envs = [stack.enter_context(contextlib.closing(make())) for _ in range(num_envs)]
        # Looking for an attribute of a protocol takes longer than a step of a small simulator.
        self._on_demand = [env if isinstance(env, DrawsOnDemand) else None for env in self._envs]

    def __len__(self) -> int:
        return len(self._envs)

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Frame]:
        return {number: self._envs[number].reset(seed) for number, seed in seeds.items()}

    def step(
        self, actions: Mapping[int, np.ndarray], unread: Collection[int] = ()
    ) -> dict[int, Step]:
        return self.step_each({n: (action, n not in unread) for n, action in actions.items()})

    def step_each(self, steps: Mapping[int, tuple[np.ndarray, bool]]) -> dict[int, Step]:
        """Apply each environment's action and say whether its pictures are read."""
        found = {}
        for number, (action, drawn) in steps.items():
            env, drawing = self._envs[number], self._on_demand[number]
            if drawing is not None:
                drawing.drawn = drawn
            found[number] = Step(*env.step(action), env.score, env.success)
        return found

    def render(self, number: int) -> np.ndarray:
        return self._envs[number].render()


class _Shared:
    """Environments of other processes; environment i is in process i modulo their number."""

    def __init__(
        self, task: Task, num_envs: int, num_workers: int, stack: contextlib.ExitStack
    ) -> None:
        shares = [len(range(first, num_envs, num_workers)) for first in range(num_workers)]
        self._num_envs = num_envs
        self._workers = [_Worker(task, share, stack) for share in shares]
        for worker in self._workers:  # they start side by side
            worker.receive()

    def __len__(self) -> int:
        return self._num_envs

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Frame]:
        return self._call("reset", seeds)

    def step(
        self, actions: Mapping[int, np.ndarray], unread: Collection[int] = ()
    ) -> dict[int, Step]:
        steps = {n: (action, n not in unread) for n, action in actions.items()}
        return self._call("step_each", steps)

    def render(self, number: int) -> np.ndarray:
        worker = self._workers[number % len(self._workers)]
        worker.send("render", number // len(self._workers))
        return worker.receive()

    def _call(self, name: str, values: Mapping[int, Any]) -> dict[int, Any]:
        """Call all processes that have one of the environments, then wait for their answers."""
        count = len(self._workers)
        shares: dict[int, dict[int, Any]] = {}
        for number, value in values.items():
            shares.setdefault(number % count, {})[number // count] = value
        for index, share in shares.items():
            self._workers[index].send(name, share)
        found: dict[int, Any] = {}
        for index in shares:
            answers = self._workers[index].receive()
            found |= {number * count + index: answer for number, answer in answers.items()}
        return found


class _Worker:
    """A process with some environments, and the pipe to it."""

    def __init__(self, task: Task, num_envs: int, stack: contextlib.ExitStack) -> None:
        # A fork would inherit this process's threads in whatever state they are.
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._name = task.name
        self._process = context.Process(
            target=_serve, args=(far_end, task.make, num_envs), name=task.name, daemon=True
        )
        with _no_interrupts():
            self._process.start()
        stack.callback(self._end)
        far_end.close()  # the process alone holds it, so that its end is noticed here

    def send(self, name: str, argument: Any) -> None:
        with self._noticing_its_end():
            self._pipe.send((name, argument))

    def receive(self) -> Any:
        with self._noticing_its_end():
            error, answer = self._pipe.recv()
        if error is not None:
            raise error
        return answer

    @contextlib.contextmanager
    def _noticing_its_end(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError):
            self._process.join(_PATIENCE)
            raise ChildProcessError(
                f"a process that simulated {self._name!r} ended with exit code "
                f"{self._process.exitcode}; if memory ran out, use fewer environments side by side "
                "(eval.batch_size) or fewer processes (eval.num_workers)"
            ) from None

    def _end(self) -> None:
        self._pipe.close()
        self._process.join(_PATIENCE)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Ctrl-C waits; a process that is started here never gets it, not even while it imports."""
    if not hasattr(signal, "pthread_sigmask"):  # as on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, make: Callable[[], Environment], num_envs: int) -> None:
    """Do what the other end of the pipe asks for, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    known = (ImportError, OSError, ValueError)
    with contextlib.ExitStack() as stack, contextlib.suppress(EOFError, ConnectionError):
        try:
            envs = _Local(make, num_envs, stack)
        except known as error:
            pipe.send((error, None))
            return
        pipe.send((None, None))
        while True:
            name, argument = pipe.recv()
            try:
                answer = (None, getattr(envs, name)(argument))
            except known as error:
                answer = (error, None)
            pipe.send(answer)


def _check_importable(task: Task) -> None:
    """Raise ValueError if another process cannot find what starts a task's simulator."""
    make: Any = task.make
    while isinstance(make, partial):
        make = make.func
    if "<" in getattr(make, "__qualname__", ""):
        raise ValueError(
            f"task {task.name!r} cannot be started in other processes, because its `make` is "
            f"{make.__qualname__}; define it at the top of a module, or use num_workers=0"
        )
