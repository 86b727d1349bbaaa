"""Limits hold in time: after lost cycles, unsent commands and bursts."""

from __future__ import annotations

import itertools
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from robots import CONFIG, DT, LIMITS, Bench, assert_within_limits, chunk, moving, state
from virtual_loop import ROBOT, World, move, run_with_stalls

from hotloop.real_robot.core.events import EventKind, Mailbox, Mode, Request


class Device:
    """Holds its goal until the next one comes; knows each goal and when it came."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.goals, self.times = bench, [bench.position], [bench.now]
        self.unsent = False

    def step(self, gap: int = 0, lost: bool = False, made=None) -> None:
        """One cycle after `gap` periods in which nobody ran; its command may be lost."""
        bench = self.bench
        bench.now += gap * DT
        bench.step(Mailbox(made, unsent=self.unsent), state(bench.now + DT, self.goals[-1]))
        self.unsent = lost
        if not lost:
            self.goals.append(bench.output.command.position)
            self.times.append(bench.now)

    def stretches(self) -> list[list[np.ndarray]]:
        """Goals as sent on the grid of periods, cut where the device was left alone."""
        cut: list[list[np.ndarray]] = [[self.goals[0]]]
        for goal, before, elapsed in zip(
            self.goals[1:], self.goals, np.diff(self.times), strict=False
        ):
            if elapsed > 1.5 * DT:
                cut.append([before])
            cut[-1].append(goal)
        return cut


PLAN = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, 2, 7, 60, 300]), st.booleans(), st.sampled_from([1, 2, 9, 25])
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40)
@given(plan=PLAN, seed=st.integers(0, 1000))
def test_after_any_gap_the_stream_as_sent_starts_from_rest_within_its_limits(plan, seed) -> None:
    """Over 253 skipped cycles there were 119 accelerations and 214 jerks beyond their limits."""
    generator = np.random.default_rng(seed)
    device = Device(Bench())
    for number, (gap, lost, cycles) in enumerate(plan):
        now = device.bench.now + gap * DT
        device.step(gap, lost, chunk(number, now, generator.uniform(-0.9, 0.9, (4, 2)), dt=0.1))
        for _ in range(cycles):
            device.step()
    for stretch in device.stretches():
        assert_within_limits(stretch, CONFIG)
    assert device.bench.mode is not Mode.STOP


@pytest.mark.parametrize("periods", [1, 2, 250])
def test_a_gap_is_told_and_the_robot_goes_on(periods) -> None:
    bench = moving()
    before = bench.position.copy()
    bench.now += periods * DT
    made = chunk(2, bench.now, [(0.8, 1.0)] * 4, dt=0.2)
    bench.send(made)
    assert f"nothing was sent for {(periods + 1) * DT:.3f} s" in bench.said(EventKind.GAP)
    assert np.abs(bench.position - before).max() < 1e-5
    bench.run(0.4)
    assert bench.mode is Mode.RUN and bench.position[0] > before[0] + 0.2


def test_a_late_cycle_is_no_gap() -> None:
    bench, twin = moving(), moving()
    for index in range(50):
        late = 0.4 * DT * (index % 2)
        position = bench.position
        bench.output = bench.controller.step(
            bench.now + (index + 1) * DT + late, state(bench.now + (index + 1) * DT, position)
        )
        bench.position = bench.output.command.position
        twin.step()
    assert EventKind.GAP not in {event.kind for event in bench.output.events}
    np.testing.assert_allclose(
        bench.output.command.velocity, twin.output.command.velocity, atol=0.02
    )


def test_a_gap_while_the_robot_stands_is_nothing_to_tell() -> None:
    bench = Bench()
    bench.now += 3
    bench.step()
    assert bench.events == [event for event in bench.events if event.kind is EventKind.MODE]
    np.testing.assert_array_equal(bench.position, (0.0, 0.0))


def test_an_old_plan_is_not_followed_after_a_long_gap() -> None:
    bench = moving()
    bench.now += 10
    bench.run(0.5)
    assert bench.mode is Mode.HOLD and bench.controller.resting


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3])
def test_steps_in_a_burst_move_no_faster_than_the_clock(share) -> None:
    """A device that hands over many packets at once must not get as many commands."""
    bench = moving()
    speed, began, start = bench.output.command.velocity, bench.now, bench.position
    for index in range(200):
        now = began + (index + 1) * share * DT
        bench.output = bench.controller.step(now, state(now, start))
    periods = 200 * share + 1
    assert bench.mode is Mode.RUN
    moved = np.abs(bench.output.command.position - start)
    assert (moved <= np.asarray(LIMITS.velocity) * periods * DT).all()
    assert moved.max() > 0.3 * np.abs(speed).max() * (periods - 2) * DT


def test_a_device_whose_clock_jitters_is_served_at_every_packet() -> None:
    bench, generator = moving(), np.random.default_rng(0)
    began = bench.now
    for index in range(200):
        before = bench.position
        now = began + (index + 1 + generator.uniform(-0.2, 0.2)) * DT
        bench.output = bench.controller.step(now, state(now, before))
        bench.position = bench.output.command.position
        assert index > 100 or (bench.position != before).any()


def test_a_command_that_was_not_sent_is_not_built_upon() -> None:
    """Five writes failed, and the sixth command was six steps away from the robot's goal."""
    device = Device(moving())
    goal = device.goals[-1]
    for _ in range(5):
        device.step(lost=True)
    device.step()
    assert np.abs(device.goals[-1] - goal).max() < 1e-5
    assert "a command was not sent" in device.bench.said(EventKind.GAP)


def test_a_command_that_fails_the_last_check_is_replaced_by_braking(monkeypatch) -> None:
    bench = moving()
    problem, calls = bench.controller._check.problem, []

    def first_fails(position: np.ndarray) -> str:
        calls.append(position)
        return "jerk limit, joint 0" if len(calls) == 1 else problem(position)

    monkeypatch.setattr(bench.controller._check, "problem", first_fails)
    bench.run(1.0)
    assert bench.mode is Mode.STOP and bench.controller.resting
    assert_within_limits(bench.commands, CONFIG)


@pytest.mark.parametrize("late", [0.0, 0.95 * DT])
def test_a_late_cycle_takes_a_chunk_that_is_newer_than_its_deadline(late) -> None:
    """99 of 501 good chunks were refused as observed -0.001 s ago."""
    bench = moving()
    now = bench.now + DT
    made = chunk(2, now + late, [(0.2, 0.2)] * 4)
    output = bench.controller.step(now, state(now + late, bench.position), Mailbox(made))
    assert output.chunk == 2 and not output.events
    made = chunk(3, now + late + 3 * DT, [(0.2, 0.2)] * 4)
    output = bench.controller.step(now + DT, state(now + DT, bench.position), Mailbox(made))
    assert output.chunk == 2 and "age" in output.events[0].text


def test_the_same_gaps_give_the_same_commands_bit_for_bit() -> None:
    def record() -> bytes:
        generator, device = np.random.default_rng(5), Device(Bench())
        for number in range(30):
            made = chunk(number, device.bench.now, generator.uniform(-0.9, 0.9, (5, 2)))
            device.step(0, bool(generator.integers(2)), made)
            for gap in generator.choice([0, 0, 0, 4], 10):
                device.step(int(gap))
        return np.stack(device.goals).tobytes()

    assert record() == record()


def test_a_clock_that_stands_still_still_lets_the_robot_brake() -> None:
    bench = moving()
    for _ in range(500):
        bench.controller.step(bench.now, state(bench.now, bench.position))
    assert bench.mode is Mode.STOP and bench.controller.resting


def test_a_first_command_that_was_not_sent_leaves_the_robot_where_it_is() -> None:
    """Armed in a cycle that was held up, the loop took joint positions 0 for where it was."""
    bench = Bench(position=(0.5, -0.7), arm=False)
    bench.step(Mailbox(chunk(1, bench.now, [(0.8, 1.0)] * 4, dt=0.2), Request.ARM))
    for _ in range(5):
        bench.step(Mailbox(unsent=True), state(bench.now + DT, np.array((0.5, -0.7))))
        assert np.abs(bench.position - (0.5, -0.7)).max() < 1e-5
    assert bench.mode is Mode.RUN and EventKind.LIMIT_VIOLATION not in bench.kinds()


def test_a_command_that_is_held_up_is_not_sent_late(close_later) -> None:
    """A process that is stopped between its computation and its write woke up with an old command.

    The robot had held the goal before it, and got a step of full speed from standstill.
    """
    world, step = close_later(World()), None

    def stalled(now, *rest):
        output = step(now, *rest)
        world.now += 0.5 if world.cycle == 40 else 0.0
        return output

    step, world.loop.controller.step = world.loop.controller.step, stalled
    world.run(100, move)
    steps = np.abs(np.diff(np.stack(world.writes), axis=0)) / world.loop.config.control.dt
    before, after = steps[36], steps[37]
    assert before.max() > 0.5 and after.max() < 0.1, "from rest"
    rows = world.channels.log_cycles.pop()
    assert (rows["has_command"] == 0).sum() == 1 and len(world.writes) == len(rows) - 1
    assert "nothing was sent for 0.50" in world.events()


def test_a_command_that_the_bus_did_not_take_is_not_built_upon(close_later) -> None:
    world, taken = close_later(World(replace(ROBOT, bus_budget=9))), {}
    world.broken, write = range(40, 45), world.write

    def remember(motion) -> None:
        write(motion)
        taken[world.cycle] = motion.position

    world.write = remember
    world.run(100, move)
    steps = np.abs(np.diff(np.stack(list(taken.values())), axis=0))
    speeds = steps.max(axis=1) / world.loop.config.control.dt
    last = list(taken).index(39)
    assert 40 not in taken and speeds[last - 1] > 0.5 and speeds[last] < 0.1, "from rest"


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.integers(5, 110),
        st.tuples(st.sampled_from(["sleep", "read", "step", "write"]), st.floats(0, 8)),
        max_size=12,
    )
)
def test_a_process_that_is_stopped_anywhere_sends_nothing_beyond_the_limits(stalls) -> None:
    """Differentiated on the grid of the loop's clock, from rest after each gap."""
    with closing(World(replace(ROBOT, bus_budget=9))) as world:
        came = run_with_stalls(world, stalls)
        rows = world.channels.log_cycles.pop()
    dt, limits = ROBOT.control.dt, ROBOT.control.limits
    sent = rows[rows["has_command"] == 1]
    assert (np.diff(sent["now"]) > 0.99 * dt).all(), "no burst"
    starts = np.flatnonzero(np.diff(sent["now"]) > 1.5 * dt) + 1
    first, *others = np.split(sent["command"], starts)
    stretches = [first] + [
        np.concatenate([sent["command"][[start - 1]], part])
        for start, part in zip(starts, others, strict=True)
    ]
    for stretch in stretches:
        assert_within_limits(list(stretch), replace(CONFIG, dt=dt, limits=limits))
    assert np.abs(sent["command"][-1]).max() > 0.05, "the robot did move"
    # What the robot sees: after it was left alone, whyever, the first goal is a step from rest.
    for (before, goal), (time, following) in itertools.pairwise(came):
        if time - before > 2.5 * dt:
            assert (np.abs(following - goal) <= np.asarray(limits.acceleration) * dt**2).all()
