"""Limits hold in time: after lost cycles, unsent commands, bursts, and a stop that lets go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from robots import CONFIG, DT, LIMITS, Bench, assert_within_limits, chunk, state

from hotloop.real_robot.core.events import EventKind, Mailbox, Mode, Request

TRACKED = replace(CONFIG, tracking_error=(0.05, 0.05), tracking_time=0.02)


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


def moving(config=CONFIG) -> Bench:
    """A robot in the middle of a fast motion."""
    bench = Bench(config)
    bench.send(chunk(1, bench.now, [(0.8, 1.0)] * 4, dt=0.2))
    bench.run(0.2)
    assert np.abs(bench.output.command.velocity).max() > 0.5
    return bench


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


class Blocked:
    """A robot whose first joint cannot get past an obstacle; nothing else holds it up."""

    def __init__(self, config=TRACKED, at: float = 0.3) -> None:
        self.bench, self.at = Bench(config), at
        self.measured = np.zeros(2)

    def run(self, seconds: float, made=None, request=Request.NONE, fault: str = "") -> None:
        for _ in range(round(seconds / DT)):
            robot = state(self.bench.now + DT, self.measured, fault)
            self.bench.step(Mailbox(made, request), robot)
            made = None
            self.measured = np.minimum(self.bench.position, [self.at, np.inf])

    def push(self) -> None:
        self.run(0.6, chunk(1, self.bench.now, [(1.2, 0.5)] * 4, dt=0.1))


def test_a_blocked_joint_is_noticed_and_then_nothing_is_pushed_any_more() -> None:
    """The command stayed where it came to rest, 0.62 rad inside of the obstacle, for good."""
    robot = Blocked()
    robot.push()
    assert robot.bench.mode is Mode.STOP
    assert "joint 0" in robot.bench.said(EventKind.STOPPED)
    robot.run(1.0)
    assert robot.bench.controller.resting
    np.testing.assert_allclose(robot.bench.position, robot.measured, atol=1e-5)
    assert "where the robot is" in robot.bench.said(EventKind.YIELDED)
    assert_within_limits(robot.bench.commands, TRACKED)
    robot.run(DT, request=Request.RESET)
    assert robot.bench.mode is Mode.IDLE


def test_a_stop_that_has_not_let_go_yet_does_not_rest() -> None:
    robot = Blocked()
    robot.push()
    seen = []
    for _ in range(500):
        robot.run(DT)
        if robot.bench.controller._motion.resting:
            seen.append(robot.bench.controller.resting)
    assert seen[0] is False and seen[-1] is True


def test_a_stop_on_request_stays_where_it_brakes_to() -> None:
    robot = Blocked(CONFIG)
    robot.push()
    robot.run(DT, request=Request.STOP)
    robot.run(1.0)
    assert robot.bench.position[0] > robot.at + 0.1
    assert EventKind.YIELDED not in robot.bench.kinds()


@pytest.mark.parametrize(
    ("measured", "age", "reason"),
    [
        ((np.nan, 0.0), 0.0, "NaN"),
        ((0.3, 0.5), 5.0, "5.000 s old"),
        ((1.4, 0.5), 0.0, "joint 0 is measured"),
        ((0.3, 0.5), 0.0, ""),
    ],
)
def test_a_stop_goes_only_where_the_robot_is_known_to_be(measured, age, reason) -> None:
    """An encoder that reads nonsense stopped the robot: it must not move it as well."""
    bench = moving()
    bench.step(robot=state(bench.now + DT, bench.position, "servo 2 is hot"))
    for _ in range(500):
        bench.step(robot=state(bench.now + DT - age, np.array(measured), "servo 2 is hot"))
    assert bench.mode is Mode.STOP and bench.controller.resting
    assert_within_limits(bench.commands, CONFIG)
    assert (EventKind.YIELDED in bench.kinds()) == (not reason)
    assert reason in bench.said(EventKind.REFUSED)


@given(st.tuples(st.floats(-0.5, 0.5), st.floats(-0.9, 0.9)), st.integers(0, 100))
@settings(max_examples=15)
def test_letting_go_ends_wherever_the_robot_is(offset, gap) -> None:
    bench = moving()
    # Where the command comes to rest.
    measured = np.array((0.36, 0.59)) + offset
    for index in range(1000):
        bench.now += DT * gap * (index == 250)
        bench.step(robot=state(bench.now + DT, measured, "servo 2 is hot"))
    assert bench.controller.resting
    np.testing.assert_allclose(bench.position, measured, atol=1e-5)


def test_letting_go_stays_within_the_limits_of_a_robot_that_was_pushed_out() -> None:
    bench = Bench(position=(1.45, 0.0))
    for _ in range(500):
        bench.step(robot=state(bench.now + DT, np.array((1.6, 0.0)), "servo 2 is hot"))
    assert bench.controller.resting and bench.position[0] == pytest.approx(1.5, abs=1e-5)
    assert_within_limits(bench.commands, CONFIG)


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
