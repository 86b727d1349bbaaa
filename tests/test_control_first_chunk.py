"""What a policy planned before the robot is armed is what the robot follows first."""

from __future__ import annotations

import numpy as np
import pytest
from virtual_loop import ROBOT, World, move

from hotloop.real_robot.core.events import Mode, Request


def ready(world: World, planned: int, armed: int, cycles: int = 40) -> None:
    """One plan in cycle `planned`, ARM in cycle `armed`."""

    def plan(cycle: int) -> None:
        if cycle == planned:
            move(world, 7)
        if cycle == armed:
            world.channels.ask(Request.ARM)
        if cycle == cycles:
            world.loop.end()

    world.plan = plan
    world.loop.run()


@pytest.mark.parametrize("planned", [1, 5, 10])
def test_the_chunk_that_was_planned_before_arming_is_followed(planned, close_later) -> None:
    """It was taken and thrown away; the next one went on from where it would have led."""
    world = close_later(World())
    ready(world, planned, armed=10)
    rows = world.channels.log_cycles.pop()
    run = rows[rows["mode"] == Mode.RUN]
    assert len(run) and (run["chunk"] == 7).all()
    assert np.abs(world.writes[-1]).max() > 0.05
    assert len(world.channels.log_chunks.pop()) == 1


def test_a_chunk_that_grew_old_before_arming_is_refused(close_later) -> None:
    world = close_later(World())
    late = 10 + round(ROBOT.control.rules.max_age / ROBOT.control.dt)
    ready(world, 3, armed=late, cycles=late + 20)
    assert "chunk 7: age" in world.events()
    np.testing.assert_array_equal(world.writes[-1], world.writes[0])
