"""What must stop a robot does so, at any period and however things coincide."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from virtual_loop import ROBOT, World, move

from hotloop.real_robot.core.events import Mode, Request
from hotloop.real_robot.runtime.channels import HEARTBEAT
from hotloop.real_robot.runtime.guards import Heartbeat


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
