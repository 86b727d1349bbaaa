"""The loop around the controller in virtual time: deadlines, overruns, bus errors, the end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from robots import LIMITS, chunk
from virtual_loop import DT, ROBOT, World, move

from hotloop.real_robot.config import RobotConfig
from hotloop.real_robot.core.events import Mode
from hotloop.real_robot.core.history import StateHistory
from hotloop.real_robot.drivers import make_driver
from hotloop.real_robot.inject import FAULTS, inject
from hotloop.real_robot.policies.protocol import Snapshot
from hotloop.real_robot.policies.reach import ReachPolicy
from hotloop.real_robot.runtime.channels import (
    chunk_dtype,
    pack_chunk,
    unpack_state,
)
from hotloop.real_robot.runtime.summary import counts, status_line


def test_deadlines_are_absolute_so_lateness_does_not_add_up(close_later) -> None:
    world = close_later(World())
    world.run(200, move)
    wakes = np.array(world.wakes[:190])
    drift = wakes - wakes[0] - DT * np.arange(len(wakes))
    np.testing.assert_allclose(drift, 0, atol=1e-9)
    assert (world.loop.tally.skipped, world.loop.tally.late) == (0, 0)


def test_cycles_that_were_missed_are_skipped_and_never_made_up_for(close_later) -> None:
    world = close_later(World())
    world.slow = {50: 0.055}
    world.run(100, move)
    gaps = np.diff(world.wakes)
    assert world.loop.tally.skipped in (4, 5)
    assert gaps.min() > 0.4 * DT, "no burst"
    steps = np.diff(np.stack(world.writes), axis=0)
    assert (np.abs(steps) / DT <= np.asarray(LIMITS.velocity) + 1e-9).all()


def test_a_run_ends_in_a_braked_stop_and_leaves_the_torque_as_configured(close_later) -> None:
    world = close_later(World())
    world.run(60, move)
    moved = np.abs(np.diff(np.stack(world.writes), axis=0)).max(axis=1)
    assert moved.max() > 0.005 and moved[-1] < 1e-3
    assert world.disconnected == [False]
    status = world.status()
    assert status["finished"] and status["mode"] == Mode.STOP and status["resting"]
    assert counts(status)["clean_end"] and counts(status)["accepted_chunks"] == 6
    assert "violations 0" in status_line(status, DT)


def test_a_run_that_was_never_armed_ends_at_once(close_later) -> None:
    world = close_later(World())
    world.plan = lambda cycle: world.loop.end() if cycle == 5 else None
    world.loop.run()
    assert world.writes == [] and world.loop.tally.cycles < 10


def test_single_bus_errors_are_survived(close_later) -> None:
    world = close_later(World())
    world.broken = range(40, 42)
    world.run(80, move)
    assert world.loop.tally.bus_failures == 4
    assert "bus:" not in world.events()


def test_a_bus_that_stays_silent_stops_the_robot(close_later) -> None:
    world = close_later(World())
    world.broken = range(40, 1000)
    world.run(60, move)
    assert "RUN -> STOP: bus: no answer" in world.events()
    assert world.status()["finished"]


def test_a_bus_that_recovers_later_does_not_restart_the_robot(close_later) -> None:
    world = close_later(World())
    world.broken = range(40, 60)
    world.run(200, move)
    moved = np.abs(np.diff(np.stack(world.writes), axis=0)).max(axis=1)
    assert not moved[-50:].any()


def test_a_device_clock_sets_the_pace(close_later) -> None:
    world = close_later(World())
    world.clock = "device"
    inner = world.read

    def packet():
        world.now += 0.001
        return inner()

    world.read = packet
    world.run(100, move)
    assert world.wakes == [] and world.loop.tally.cycles == 100 - 1 + (world.loop.tally.cycles - 99)
    assert world.loop.tally.accepted > 5


def test_joints_and_slower_sensors_are_seen_at_the_same_time(close_later) -> None:
    """A camera that is 80 ms late goes with the joints of 80 ms ago, not with the newest ones."""
    robot = replace(ROBOT, sensor_latency=0.08, observation_latency=0.01)
    robot = replace(robot, options={**ROBOT.options, "scene": [1.0]})
    world = close_later(World(robot, num_sensors=1))
    world.run(60, move)
    seen = unpack_state(world.channels.state.read())
    cycles = world.channels.log_cycles.pop()
    newest = cycles["state"]["time"][-1]
    assert seen.time == pytest.approx(newest - 0.07)
    for joint in range(2):
        expected = np.interp(
            seen.time, cycles["state"]["time"], cycles["state"]["position"][:, joint]
        )
        assert seen.position[joint] == pytest.approx(expected, abs=1e-9)
    assert newest == pytest.approx(cycles["wake"][-1] - 0.01)
    with pytest.raises(ValueError, match="sensor_latency must be between 0 and"):
        replace(ROBOT, sensor_latency=-1.0)


def test_a_history_interpolates_and_holds_its_ends() -> None:
    history = StateHistory(1.0)
    with pytest.raises(LookupError, match="no measurement yet"):
        history.at(0.0)
    for time in (0.0, 0.1, 0.1, 0.3):
        history.add(time, np.array([time]), np.array([2 * time]))
    for time, expected in ((-1.0, 0.0), (0.05, 0.05), (0.2, 0.2), (9.0, 0.3)):
        position, velocity = history.at(time)
        assert (position[0], velocity[0]) == pytest.approx((expected, 2 * expected))
    history.add(5.0, np.array([5.0]), np.zeros(1))
    assert history.at(0.1)[0] >= 0.3, "older ones are forgotten"


def test_a_robot_that_cannot_be_connected_is_reported(close_later) -> None:
    world = close_later(World())

    def refuse() -> None:
        raise ConnectionError("nobody there")

    world.connect = refuse
    with pytest.raises(ConnectionError, match="nobody there"):
        world.loop.run()
    assert counts(world.status())["failure"] == "nobody there"
    assert world.disconnected == [False]


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"kill", "silence", "step", "empty"}))
def test_injected_faults_are_rejected_by_the_loop(fault, close_later) -> None:
    world = close_later(World())

    def send(world: World, cycle: int) -> None:
        made = chunk(9, world.now - 1e-3, [(0.1, 0.2)] * 4, dt=0.2)
        record = pack_chunk(inject(fault, made), chunk_dtype(world.channels.sizes))
        world.channels.chunk.write(record)

    world.run(30, send)
    assert world.loop.tally.rejected >= 2 and world.loop.tally.accepted == 0


def test_only_every_tenth_chunk_is_spoilt() -> None:
    sound = chunk(8, 0.0, [(0.1, 0.2)] * 4)
    assert inject("nan", sound) is sound and inject("", sound) is sound
    with pytest.raises(ValueError, match="inject must be one of"):
        inject("typo", sound)


def test_the_reach_policy_goes_from_pose_to_pose_within_the_limits() -> None:
    policy = ReachPolicy(ROBOT)
    position, previous, goals = np.zeros(2), None, set()
    for step in range(600):
        plan = policy.plan(Snapshot(0.1 * step, position, np.zeros(2), np.zeros(0)))
        speed = np.abs(np.diff(plan.waypoints, axis=0)) / 0.05
        assert (speed <= 0.5 * np.asarray(LIMITS.velocity) + 1e-9).all()
        assert (plan.waypoints >= LIMITS.low).all() and (plan.waypoints <= LIMITS.high).all()
        if previous is not None:
            # The plans of one reach are pieces of one curve.
            overlap = np.abs(plan.waypoints[0] - previous.waypoints[2]).max()
            assert overlap < 1e-9 or tuple(policy._move.goal) not in goals
        goals.add(tuple(policy._move.goal))
        previous, position = plan, plan.waypoints[1]
    assert len(goals) > 5
    with pytest.raises(ValueError, match="share must be in"):
        ReachPolicy(ROBOT, share=0.0)


def test_a_back_end_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no driver 'canbus'; choose from dry-run, dynamixel"):
        make_driver(RobotConfig("x", "canbus", ROBOT.control))
    with pytest.raises(ValueError, match="bus_budget must be at least 1"):
        RobotConfig("x", "dry-run", ROBOT.control, bus_budget=0)
    with pytest.raises(ValueError, match="needs the option model"):
        make_driver(RobotConfig("x", "mujoco", ROBOT.control))
    with pytest.raises(ValueError, match="has 6 driven joints, the limits are for 2"):
        make_driver(RobotConfig("x", "mujoco", ROBOT.control, {"model": "arm6"}))
