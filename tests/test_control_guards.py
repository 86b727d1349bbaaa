"""What must stop a robot does so, at any period and however things coincide."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
import pytest
from robot_runs import DRY, JOB, run
from robots import Bench, state
from virtual_loop import ROBOT, World, move

from hotloop.real_robot.core.events import Mode, Request
from hotloop.real_robot.core.watch import LATE_CYCLES
from hotloop.real_robot.runtime.channels import HEARTBEAT
from hotloop.real_robot.runtime.guards import Heartbeat
from hotloop.real_robot.runtime.supervisor import CONCLUSION, END_TIMEOUTS

pytestmark = pytest.mark.realtime


@pytest.mark.parametrize("dt", [0.1, 0.3])
def test_long_periods_are_guarded_too(dt, close_later) -> None:
    control = replace(ROBOT.control, dt=dt, state_timeout=0.5, stale_timeout=5.0)
    world = close_later(World(replace(ROBOT, control=control)))
    record = np.zeros((), HEARTBEAT)
    record["time"] = world.now
    world.channels.heartbeat.write(record)
    world.run(int(6 / dt))
    assert "ARMED -> STOP: the supervisor was not heard for 2." in world.events()


def test_no_later_key_hides_a_stop(close_later) -> None:
    world = close_later(World())

    def send(world: World, cycle: int) -> None:
        move(world, cycle)
        if cycle == 33:
            for request in (Request.STOP, Request.RESET, Request.ARM):
                world.channels.ask(request)

    world.run(60, send)
    assert "RUN -> STOP: requested" in world.events()
    assert world.status()["mode"] == Mode.STOP and not world.status()["asked"]


def test_a_supervisor_that_was_stopped_while_it_wrote_is_silent(close_later) -> None:
    channels = close_later(World()).channels
    channels.beat()
    heartbeat, now = Heartbeat(channels), time.monotonic()
    assert not heartbeat.problem(now)
    channels.heartbeat._counters[0] += 1  # odd: a write has begun
    assert "not heard for 3." in heartbeat.problem(now + 3.5)


def test_asking_whether_a_robot_may_start_changes_nothing() -> None:
    """Each question counted as a cycle whose measurement is of another clock."""
    bench = Bench(arm=False)
    ahead = state(bench.now + 10 * bench.controller.config.state_timeout, bench.position)
    for _ in range(2 * LATE_CYCLES):
        assert bench.controller.start_problem(bench.now, ahead) == ""
    for _ in range(LATE_CYCLES + 1):
        bench.step(robot=replace(ahead, time=bench.now + 10.0))
    assert "by another clock" in bench.controller.start_problem(bench.now, ahead)


DEAF = """
import signal, time
from hotloop.real_robot.policies.reach import ReachPolicy

class Deaf(ReachPolicy):
    def __init__(self, robot, options):
        super().__init__(robot)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""


def test_a_policy_that_does_not_end_holds_nobody_up(tmp_path, monkeypatch) -> None:
    """It waited for a minute; only a policy that has something to finish is given that long."""
    (tmp_path / "deaf.py").write_text(DEAF)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    assert 10 * END_TIMEOUTS["policy"] < CONCLUSION
    monkeypatch.setitem(END_TIMEOUTS, "policy", 0.5)
    summary, lines = run(DRY, replace(JOB, policy="deaf:Deaf", duration=0.3))
    assert "the policy process does not end: killed" in lines
    assert summary["clean_end"] and "policy" in "".join(summary["failures"])
