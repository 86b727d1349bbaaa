"""Whatever a policy sends, the command stream keeps every limit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import ruckig
from hypothesis import given, settings
from hypothesis import strategies as st
from robots import CHAIN, CONFIG, DT, LIMITS, WORKSPACE, Bench, assert_within_limits, chunk

from hotloop.real_robot.core.brake import plan_stop
from hotloop.real_robot.core.check import CommandCheck
from hotloop.real_robot.core.events import EventKind, Mode
from hotloop.real_robot.core.limiter import Limiter
from hotloop.real_robot.core.limits import Chain, Limits, PlainMotion, Workspace
from hotloop.real_robot.core.stitcher import StitchConfig
from hotloop.real_robot.core.trajectory import Chunk

NUMBERS = st.one_of(
    st.floats(-2.5, 2.5), st.sampled_from([np.nan, np.inf, -1e6, 1e6, 2.0, -2.0, 0.0])
)

CYCLES = st.sampled_from([1, 1, 3, 10, 40])


@st.composite
def chunks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float]:
    """Times relative to now, waypoints and the observation's age: mostly sane, often not."""
    size = draw(st.integers(0, 6))
    dims = draw(st.sampled_from([2, 2, 2, 2, 2, 1, 3]))
    first = draw(st.sampled_from([0.01, 0.05, -0.1, -10.0, 10.0, 1e9, np.nan]))
    spacing = draw(st.sampled_from([0.05, 0.002, 0.3, 1e-9, 0.0, -0.05]))
    sane = draw(st.booleans())
    numbers = st.floats(-2.0, 2.0) if sane else NUMBERS
    points = draw(st.lists(numbers, min_size=size * dims, max_size=size * dims))
    age = draw(st.sampled_from([0.0, 0.05, 0.1, 3.0, -1.0]))
    return first + spacing * np.arange(size), np.reshape(points, (size, dims)), age


@pytest.mark.parametrize("blend", ["replace", "cross-fade", "ensemble"])
@pytest.mark.parametrize("workspace", [None, WORKSPACE])
@settings(max_examples=25)
@given(
    plan=st.lists(st.tuples(st.sampled_from([1, 1, 3, 10, 40]), chunks()), min_size=1, max_size=14)
)
def test_no_chunk_sequence_makes_a_command_leave_its_limits(blend, workspace, plan) -> None:
    config = replace(CONFIG, workspace=workspace, stitch=StitchConfig(blend=blend))
    bench = Bench(config, (0.2, 0.3))
    for number, (cycles, (times, waypoints, age)) in enumerate(plan):
        bench.send(Chunk(number, bench.now - age, bench.now + times, waypoints))
        bench.run(cycles * DT)
    assert EventKind.LIMIT_VIOLATION not in bench.kinds()
    assert bench.mode is not Mode.STOP
    assert_within_limits(bench.commands, config)


@pytest.mark.parametrize("workspace", [None, WORKSPACE])
def test_full_speed_into_the_limits_stops_before_them(workspace) -> None:
    """Random targets far apart, half of them beyond the limits, for 5 s."""
    generator = np.random.default_rng(3)
    config = replace(CONFIG, workspace=workspace)
    bench = Bench(config, (0.2, 0.3))
    for number in range(25):
        bench.send(chunk(number, bench.now, generator.uniform(-1.2, 1.7, (4, 2))))
        bench.run(0.198)
    assert_within_limits(bench.commands, config)
    assert {EventKind.CLIPPED} <= bench.kinds()
    assert EventKind.LIMIT_VIOLATION not in bench.kinds()
    assert np.ptp(np.stack(bench.commands), axis=0).min() > 0.5, "the robot did move"


def test_the_guard_holds_the_position_limit_that_ruckig_alone_overshoots() -> None:
    """A target that wants full speed just before the limit: Ruckig runs through it."""
    limits = Limits((-1.0,), (1.0,), (2.0,), (8.0,), (400.0,))
    limiter = Limiter(limits, DT)
    limiter._safe_velocity = lambda target, velocity, largest: velocity
    target, velocity = [0.99], [1.9]
    free = held = PlainMotion.at_rest([0.0])
    reached, guarded = 0.0, False
    for _ in range(800):
        free = limiter._profile(free, target, velocity, [2.0])
        limited = limiter.step(held, target, velocity)
        held, guarded = limited.motion, guarded or limited.guarded
        reached = max(reached, float(free.position[0]))
        assert held.position[0] <= 1.0
    assert guarded and reached > 1.0


@pytest.mark.parametrize("start", [0.0, -0.2, 0.15])
def test_a_moving_target_is_caught_up_with_and_then_followed_exactly(start) -> None:
    """A profile to where the target is now stepped back for its run-up, again at every cycle.

    Following a slow sine the joint was up to 0.1 rad away, at the acceleration limit all the time.
    """
    limits = Limits((-1.5,), (1.5,), (2.0,), (10.0,), (400.0,))
    limiter, omega = Limiter(limits, DT), 2 * np.pi * 0.4
    motion, errors, speeds = PlainMotion.at_rest([start]), [], []
    for time in DT * np.arange(1, 1500):
        target, velocity = 0.3 * np.sin(omega * time), 0.3 * omega * np.cos(omega * time)
        motion = limiter.step(motion, [target], [velocity]).motion
        errors.append(abs(motion.position[0] - target))
        speeds.append(motion.velocity[0])
    assert max(errors[400:]) < 1e-4
    assert np.abs(np.diff(speeds[400:]) / DT).max() < 1.05 * 0.3 * omega**2


@given(velocity=st.floats(-2, 2), acceleration=st.floats(-8, 8), position=st.floats(-3, 3))
def test_the_closed_form_stop_is_ruckigs_time_optimal_one(velocity, acceleration, position) -> None:
    stop = plan_stop(position, velocity, acceleration, 8.0, 200.0)
    request, reference = ruckig.InputParameter(1), ruckig.Trajectory(1)
    request.control_interface = ruckig.ControlInterface.Velocity
    request.current_position, request.current_velocity = [position], [velocity]
    request.current_acceleration = [acceleration]
    request.max_acceleration, request.max_jerk = [8.0], [200.0]
    ruckig.Ruckig(1, DT).calculate(request, reference)
    samples = [reference.at_time(t)[0][0] for t in np.linspace(0, reference.duration, 200)]
    low, high = stop.extent()
    assert stop.duration == pytest.approx(reference.duration, abs=1e-7)
    assert stop.end() == pytest.approx(reference.at_time(reference.duration + 1)[0][0], abs=1e-8)
    assert low == pytest.approx(min(samples), abs=1e-4) and low <= min(samples) + 1e-9
    assert high == pytest.approx(max(samples), abs=1e-4) and high >= max(samples) - 1e-9


@given(velocity=st.floats(-2, 2), acceleration=st.floats(-8, 8), delay=st.floats(0, 1))
def test_stopping_later_along_a_stop_ends_in_the_same_place(velocity, acceleration, delay) -> None:
    """The guard's induction needs this: the rest of a stop is the stop of what is left."""
    stop = plan_stop(0.0, velocity, acceleration, 8.0, 200.0)
    later = plan_stop(*stop.after(delay * stop.duration), 8.0, 200.0)
    assert later.end() == pytest.approx(stop.end(), abs=1e-9)


def test_a_stop_within_one_period_rests_exactly() -> None:
    position, velocity, acceleration = plan_stop(0.0, 1e-5, 0.0, 8.0, 200.0).after(DT)
    assert (velocity, acceleration) == (0.0, 0.0) and position > 0


def test_the_last_check_finds_each_kind_of_violation() -> None:
    check = CommandCheck(LIMITS, DT, WORKSPACE)
    start = [0.2, 0.3]
    for offset, what in (
        ((9.0, 0.0), "position limit, joint 0"),
        ((0.0, np.nan), "position limit, joint 1"),
        ((-1.1, -2.2), "workspace"),
        ((0.0, 0.01), "velocity limit, joint 1"),
        ((1e-4, 0.0), "acceleration limit, joint 0"),
        ((1e-5, 0.0), "jerk limit, joint 0"),
    ):
        check.restart(start)
        assert check.problem([a + b for a, b in zip(start, offset, strict=True)]) == what
        assert check.problem(start) == "", "a refused command leaves no trace"


def test_the_chain_is_the_textbook_formula_of_a_two_link_arm() -> None:
    q = np.random.default_rng(0).uniform(-3, 3, (50, 2))
    expected = np.stack(
        [
            0.4 * np.cos(q[:, 0]) + 0.3 * np.cos(q.sum(axis=1)),
            0.4 * np.sin(q[:, 0]) + 0.3 * np.sin(q.sum(axis=1)),
            np.full(50, 0.1),
        ],
        axis=1,
    )
    np.testing.assert_allclose(CHAIN.tool_position(q), expected, atol=1e-12)
    assert CHAIN.reach == pytest.approx([0.7, 0.3])


def test_a_sliding_joint_moves_the_tool_along_its_axis() -> None:
    gantry = Chain(((0.0,) * 3,) * 2, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), (0.0,) * 3, (True, True))
    np.testing.assert_allclose(gantry.tool_position(np.array([[0.3, -0.2]])), [[0.3, -0.2, 0.0]])
    assert gantry.reach == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": (0.0,)}, "one value per joint"),
        ({"low": (9.0, 0.0)}, "below limits.high"),
        ({"high": (np.nan, 1.0)}, "finite"),
        ({"velocity": (0.0, 1.0)}, "limits.velocity must be positive"),
        ({"jerk": (np.nan, 1.0)}, "limits.jerk must be positive"),
    ],
)
def test_limits_that_do_not_limit_are_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        replace(LIMITS, **change)


def test_impossible_chains_and_workspaces_are_refused() -> None:
    with pytest.raises(ValueError, match="an offset and an axis per joint"):
        Chain(((0.0,) * 3,), (), (0.0,) * 3)
    with pytest.raises(ValueError, match="must have length 1"):
        Chain(((0.0,) * 3,), ((0.0, 0.0, 2.0),), (0.0,) * 3)
    with pytest.raises(ValueError, match="must be below high"):
        Workspace(CHAIN, (0.0, None, None), (-1.0, None, None))
