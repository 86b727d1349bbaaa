"""Environments in several processes: same outcome, and no process stays behind."""

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np
import pytest
from drift import DRIFT, Crashing, Drift, NoSimulator
from noisy_hold import NoisyHold

from hotloop.envs import Video, environments, evaluate

SEEDS = range(100, 117)


def test_episodes_and_pictures_are_those_of_one_process(tmp_path):
    """Also of a second evaluation in the same processes, of fewer episodes than environments."""
    videos = [Video(tmp_path / f"{name}.mp4", 3) for name in ("alone", "shared")]
    alone = evaluate(NoisyHold(), DRIFT, SEEDS, video=videos[0])
    with environments(DRIFT, 5, num_workers=2) as envs:
        assert len(envs) == 5
        assert len(multiprocessing.active_children()) == 2
        shared = evaluate(NoisyHold(), DRIFT, SEEDS, envs, video=videos[1])
        few = evaluate(NoisyHold(), DRIFT, SEEDS[:3], envs)
    assert shared.episodes == alone.episodes
    assert few.episodes == alone.episodes[:3]
    np.testing.assert_equal(videos[1]._pictures, videos[0]._pictures)
    assert not multiprocessing.active_children()


def test_a_process_that_dies_is_told_in_one_sentence_and_none_is_left():
    crashing = dataclasses.replace(DRIFT, make=Crashing)
    expected = r"a process that simulated 'drift' ended with exit code 7; if memory ran out, use"
    with (
        pytest.raises(ChildProcessError, match=expected),
        environments(crashing, 3, num_workers=2) as envs,
    ):
        evaluate(NoisyHold(), crashing, SEEDS, envs)
    assert not multiprocessing.active_children()


def test_what_keeps_a_simulator_from_starting_is_raised_here():
    task = dataclasses.replace(DRIFT, make=NoSimulator)
    with (
        pytest.raises(ImportError, match="needs a drift: pip install drift"),
        environments(task, 2, num_workers=2),
    ):
        pass
    assert not multiprocessing.active_children()


def test_a_policy_that_fails_leaves_no_process():
    class Failing(NoisyHold):
        def plan(self, observation, step):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), environments(DRIFT, 2, num_workers=1) as envs:
        evaluate(Failing(), DRIFT, SEEDS, envs)
    assert not multiprocessing.active_children()


def test_an_interrupt_while_a_process_starts_is_for_the_one_that_asks(monkeypatch):
    """Ctrl-C reaches all processes of a terminal; those that simulate must not die of it."""
    start = SpawnProcess.start

    def interrupted(process):
        start(process)
        os.kill(process.pid, signal.SIGINT)

    monkeypatch.setattr(SpawnProcess, "start", interrupted)
    with environments(DRIFT, 1, num_workers=1) as envs:
        assert set(envs.reset({0: 0})) == {0}
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_what_another_process_could_not_find_is_refused():
    class Local(Drift):
        pass

    with (
        pytest.raises(
            ValueError, match=r"task 'drift' cannot be started in other .*<locals>\.Local"
        ),
        environments(dataclasses.replace(DRIFT, make=Local), 2, num_workers=1),
    ):
        pass


@pytest.mark.parametrize(
    ("numbers", "message"),
    [((0, 0), "num_envs must be at least 1, got 0"), ((2, -1), "num_workers must be 0 .* got -1")],
)
def test_numbers_that_are_none_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message), environments(DRIFT, *numbers):
        pass


def test_processes_end_with_the_one_that_started_them():
    """Even if that is killed and can say nothing."""
    program = (
        "import multiprocessing, time\n"
        "from drift import DRIFT\n"
        "from hotloop.envs import environments\n"
        "with environments(DRIFT, 2, num_workers=2):\n"
        "    print(*(one.pid for one in multiprocessing.active_children()), flush=True)\n"
        "    time.sleep(60)\n"
    )
    tests = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        numbers = parent.stdout.readline().split()
        assert len(numbers) == 2
        parent.kill()
    deadline = time.monotonic() + 20
    while any(_runs(number) for number in numbers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_runs(number) for number in numbers)


def _runs(number: str) -> bool:
    """Whether a process is there and no mere entry that nobody has asked about."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
