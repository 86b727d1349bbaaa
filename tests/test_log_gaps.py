"""A log of a run with gaps: recomputed bit for bit, and no limit is called exceeded over them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from virtual_loop import ROBOT, World, move

from hotloop.real_robot.core.events import Request
from hotloop.real_robot.logs.export import peak_shares, summary_lines
from hotloop.real_robot.logs.reader import ControlLog, read_log
from hotloop.real_robot.logs.recompute import recompute
from hotloop.real_robot.logs.writer import LogWriter


def logged(path: Path, world: World, keep=slice(None), dropped: int = 0) -> ControlLog:
    """The log of a run of `world`, with the cycles that are kept."""
    with LogWriter(path, world.loop.config, world.channels.sizes) as writer:
        writer.cycles(world.channels.log_cycles.pop()[keep])
        writer.chunks(world.channels.log_chunks.pop())
        writer.events(world.channels.log_events.pop())
        writer.end(dropped)
    return read_log(path)


@pytest.fixture
def world(close_later) -> World:
    """A run at full speed with two stalls of the process and five writes that failed."""
    made = close_later(World(replace(ROBOT, bus_budget=9)))
    made.slow, made.broken = {30: 0.3, 60: 0.05}, range(80, 85)
    made.run(140, move)
    return made


def test_a_run_with_gaps_is_recomputed_bit_for_bit(world, tmp_path) -> None:
    found = recompute(logged(tmp_path / "log.mcap", world))
    assert found.cycles > 130 and found.different == 0


def test_a_command_that_was_logged_otherwise_is_found_whether_it_was_sent_or_not(
    world, tmp_path
) -> None:
    log = logged(tmp_path / "log.mcap", world)
    unsent = next(cycle for cycle in log.cycles[3:] if not cycle["has_command"])
    unsent["command"][0] += 1e-12
    assert recompute(log).different == 1


def test_nothing_beyond_the_limits_is_seen_in_a_gap(world, tmp_path) -> None:
    """A log with missing records reported a velocity of 24199 %."""
    log = logged(tmp_path / "log.mcap", world)
    assert peak_shares(log) == pytest.approx([1.0] * 3, abs=0.1)
    assert max(peak_shares(log)) < 1 + 1e-6
    text = "\n".join(summary_lines(log))
    assert "gaps without a cycle of the loop: 2, the longest 0.3" in text


def test_records_that_are_missing_are_no_motion(world, tmp_path) -> None:
    keep = np.r_[0:20, 45:90, 120:135]
    log = logged(tmp_path / "log.mcap", world, keep, dropped=55)
    assert max(peak_shares(log)) < 1 + 1e-6 and peak_shares(log)[0] > 0.9
    assert "gaps without a cycle or its record: " in "\n".join(summary_lines(log))


def test_an_excess_beside_a_gap_is_seen(world, tmp_path) -> None:
    log = logged(tmp_path / "log.mcap", world)
    gap = int(np.argmax(np.diff(log.column("now"))))
    log.cycles[gap + 1]["command"][0] += 0.02
    assert peak_shares(log)[1] > 2


def test_a_robot_that_was_moved_by_hand_and_armed_again_exceeds_nothing(
    tmp_path, close_later
) -> None:
    world = close_later(World())

    def again(self: World, cycle: int) -> None:
        requests = {23: Request.STOP, 83: Request.RESET, 103: Request.ARM}
        if cycle in requests:
            self.channels.ask(requests[cycle])
        if cycle == 93:
            self._inner._motion = self._inner._motion._replace(position=np.array([-0.9, 0.9]))
        if cycle < 23 or cycle > 103:
            move(self, cycle)

    world.run(150, again)
    log = logged(tmp_path / "log.mcap", world)
    assert log.cycles[-1]["command"] != log.cycles[30]["command"]
    assert max(peak_shares(log)) < 1 + 1e-6 and recompute(log).different == 0
