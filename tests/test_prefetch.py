"""Batches that a thread makes ready: the same ones, in order, and no later than they were."""

from __future__ import annotations

import threading

import pytest

from hotloop.train.data.prefetch import NUM_AHEAD, Prefetched


class Loads:
    """Counts what it is asked for, and waits at a gate."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, step: int) -> int:
        self.gate.wait(10)
        self.steps.append(step)
        self.threads.add(threading.get_ident())
        if step == 7:
            raise OSError("step 7 cannot be read")
        return 10 * step


def test_every_step_is_loaded_once_in_order_by_one_thread() -> None:
    loads = Loads()
    batches = Prefetched(loads, 6)
    with batches.running():
        assert [batches[step] for step in range(6)] == [0, 10, 20, 30, 40, 50]
    assert loads.steps == list(range(6))
    assert len(loads.threads) == 1 and threading.get_ident() not in loads.threads


def test_the_next_batches_are_loaded_while_the_caller_works() -> None:
    loads, loaded = Loads(), threading.Event()

    def load(step: int) -> int:
        result = loads(step)
        if step == 2 + NUM_AHEAD:
            loaded.set()
        return result

    batches = Prefetched(load, 100)
    with batches.running():
        assert [batches[step] for step in range(3)] == [0, 10, 20]
        assert loaded.wait(10), "nobody loads what was not asked for"
    assert loads.steps == list(range(3 + NUM_AHEAD)), "no more is kept ready than NUM_AHEAD"


def test_a_run_that_goes_on_elsewhere_gets_its_own_batches() -> None:
    loads = Loads()
    batches = Prefetched(loads, 100)
    assert batches[50] == 500, "without the thread too"
    with batches.running():
        assert [batches[step] for step in (3, 40, 41, 3)] == [30, 400, 410, 30]


def test_what_went_wrong_is_raised_at_its_step_and_the_thread_ends() -> None:
    loads = Loads()
    batches = Prefetched(loads, 100)
    with batches.running(), pytest.raises(OSError, match="step 7 cannot be read"):
        for step in range(5, 10):
            assert batches[step] == 10 * step
            assert step < 7
    assert not any(thread.name.startswith("batches") for thread in threading.enumerate())


def test_an_interruption_does_not_wait_for_batches_that_nobody_will_use() -> None:
    loads = Loads()
    batches = Prefetched(loads, 100)
    with pytest.raises(KeyboardInterrupt), batches.running():
        assert batches[0] == 0
        loads.gate.clear()
        threading.Timer(0.05, loads.gate.set).start()
        raise KeyboardInterrupt
    assert len(loads.steps) <= 1 + NUM_AHEAD
    assert not any(thread.name.startswith("batches") for thread in threading.enumerate())
