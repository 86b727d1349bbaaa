"""A stop by a fault lets go: nothing is pushed for good, nor moved by a wrong measurement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from robots import CONFIG, DT, Bench, assert_within_limits, chunk, moving, state

from hotloop.real_robot.core.events import EventKind, Mailbox, Mode, Request

TRACKED = replace(CONFIG, tracking_error=(0.05, 0.05), tracking_time=0.02)


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


def test_a_stop_on_request_lets_go_of_what_it_stopped_into() -> None:
    """The operator stops the robot because it pushes, and then it must not go on pushing."""
    robot = Blocked(replace(TRACKED, tracking_time=0.5))
    robot.push()
    robot.run(DT, request=Request.STOP)
    assert robot.bench.mode is Mode.STOP and robot.bench.position[0] > robot.at + 0.05
    robot.run(0.3, request=Request.STOP)
    robot.run(1.0)
    assert robot.bench.position[0] == pytest.approx(robot.at, abs=1e-5)
    assert robot.bench.said(EventKind.STOPPED) == "HOLD -> STOP: requested"
    assert_within_limits(robot.bench.commands, TRACKED)


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
