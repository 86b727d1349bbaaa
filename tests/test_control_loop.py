"""The control loop's states, faults and timing rules, in virtual time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from robots import CONFIG, DT, LIMITS, WORKSPACE, Bench, assert_within_limits, chunk, moving, state

from hotloop.real_robot.core.controller import Controller
from hotloop.real_robot.core.events import EventKind, Mailbox, Mode, Request

FAR = [(0.8, 1.0)] * 4


def test_an_idle_loop_sends_nothing() -> None:
    bench = Bench(arm=False)
    assert bench.step().command is None
    assert bench.send(chunk(1, bench.now, FAR)).command is None
    assert bench.mode is Mode.IDLE


def test_the_first_command_is_where_the_robot_is() -> None:
    bench = Bench(position=(0.123, -0.456))
    assert bench.mode is Mode.ARMED
    np.testing.assert_array_equal(bench.commands, [[0.123, -0.456]])


@pytest.mark.parametrize(
    ("position", "message"),
    [((1.6, 0.0), r"joint 0 is at 1\.6000"), ((np.nan, 0.0), "NaN"), ((-0.9, -1.9), "workspace")],
)
def test_a_robot_outside_its_limits_is_not_armed(position, message) -> None:
    bench = Bench(replace(CONFIG, workspace=WORKSPACE), position)
    assert bench.mode is Mode.IDLE
    assert bench.output.command is None
    assert message.replace("\\", "") in bench.said(EventKind.REFUSED)


def test_a_chunk_is_followed_to_its_last_waypoint_on_time() -> None:
    bench = Bench()
    goal = np.array([0.3, -0.4])
    path = np.linspace(0, 1, 20)[:, None] ** 2 * (3 - 2 * np.linspace(0, 1, 20)[:, None]) * goal
    start = bench.now
    bench.send(chunk(1, start, path))
    for index in (8, 13, 18):
        bench.run(start + 0.05 * (index + 1) - bench.now)
        np.testing.assert_allclose(bench.position, path[index], atol=0.01)
        bench.send(chunk(index, bench.now, path[index + 1 :]))


def test_a_late_policy_makes_the_robot_brake_and_a_new_chunk_lets_it_go_on() -> None:
    bench = moving()
    bench.run(0.4)
    assert bench.mode is Mode.HOLD
    bench.run(0.5)
    assert bench.controller._motion.resting
    bench.send(chunk(2, bench.now, FAR))
    bench.run(0.1)
    assert bench.mode is Mode.RUN
    assert_within_limits(bench.commands, CONFIG)


def test_a_dead_policy_means_rest_within_the_stale_time_and_the_time_to_brake() -> None:
    bench = moving()
    silent_since = bench.now - 0.2
    while not (bench.mode is Mode.HOLD and bench.controller._motion.resting):
        bench.step()
        assert bench.now - silent_since < 5
    braking = max(v / a + a / j for v, a, j in zip(
        LIMITS.velocity, LIMITS.acceleration, LIMITS.jerk, strict=True))  # fmt: skip
    assert bench.now - silent_since <= CONFIG.stale_timeout + braking + 2 * DT


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda now: chunk(2, now, [(np.nan, 0.0)] * 3), "not finite"),
        (lambda now: chunk(2, now, [(0.0, 0.0, 0.0)] * 3), r"shape: expected"),
        (lambda now: chunk(2, now, np.zeros((0, 2))), r"shape: expected"),
        (lambda now: chunk(2, now, FAR, dt=-0.05), "time order"),
        (lambda now: chunk(2, now, FAR, times=np.full(4, now + 0.1)), "time order"),
        (lambda now: chunk(2, now, FAR, times=now + 10 + np.arange(4.0)), "far future"),
        (lambda now: chunk(2, now, FAR, dt=1e3), "far future"),
        (lambda now: chunk(2, now, FAR, times=now + 0.1 + 100 * np.arange(4.0)), "duration"),
        (lambda now: chunk(2, now, FAR, times=now - 9 + np.arange(4.0)), "late"),
        (lambda now: chunk(2, now, FAR, times=np.arange(4)), "expected floats"),
        (lambda now: chunk(2, now, [(0.0, 0.0), (1e6, 0.0)]), "jump"),
        (lambda now: chunk(2, now, FAR, observed_at=now - 1), "age"),
        (lambda now: chunk(2, now, FAR, observed_at=now + 1), "age"),
        (lambda now: chunk(2, now, FAR, observed_at=np.nan), "age"),
        (lambda now: chunk(0, now, FAR), "order"),
    ],
)
def test_a_bad_chunk_is_rejected_and_the_good_one_before_it_goes_on(made, message) -> None:
    bench, twin = moving(), moving()
    bench.send(made(bench.now))
    twin.step()
    assert message.split(":")[0] in bench.said(EventKind.CHUNK_REJECTED)
    for one in (bench, twin):
        one.run(0.1)
    np.testing.assert_array_equal(bench.commands, twin.commands)


@pytest.mark.parametrize(
    ("robot", "message"),
    [
        (lambda now, q: state(now - 1, q), "1.000 s old"),
        (lambda now, q: state(np.nan, q), "s old"),
        (lambda now, q: state(now, q * np.nan), "NaN"),
        (lambda now, q: state(now, q, "the bus is unplugged"), "unplugged"),
    ],
)
def test_a_broken_robot_is_stopped_for_good(robot, message) -> None:
    bench = moving()
    bench.step(robot=robot(bench.now + DT, bench.position))
    assert bench.mode is Mode.STOP and message in bench.said(EventKind.STOPPED)
    bench.send(chunk(2, bench.now, FAR))
    bench.step(Mailbox(request=Request.ARM))
    bench.run(1.0)
    assert bench.mode is Mode.STOP and bench.controller._motion.resting
    assert_within_limits(bench.commands, CONFIG)


def test_measurements_by_another_clock_stop_the_robot_and_one_late_cycle_does_not() -> None:
    """A loop that was stopped in its sleep reads long after its deadline."""
    bench = moving()
    bench.step(robot=state(bench.now + DT + 0.2, bench.position))
    bench.run(0.01)
    assert bench.mode is Mode.RUN
    for _ in range(5):
        bench.step(robot=state(bench.now + DT + 1, bench.position))
    assert "of 1.000 s later, by another clock" in bench.said(EventKind.STOPPED)


def test_a_robot_that_was_never_armed_is_sent_nothing_even_when_stopped() -> None:
    """The stop used to be sent as a command: to joint positions that nobody had measured."""
    bench = Bench(position=(0.5, 0.5), arm=False)
    assert bench.step(Mailbox(request=Request.STOP)).command is None
    assert bench.mode is Mode.STOP and bench.step().command is None
    bench.step(Mailbox(request=Request.RESET))
    bench.step(Mailbox(request=Request.ARM))
    np.testing.assert_array_equal(bench.commands, [[0.5, 0.5]])


@pytest.mark.parametrize("jump", [-5.0, 0.0, np.nan])
def test_a_clock_that_does_not_advance_stops_the_robot(jump) -> None:
    bench = moving()
    bench.controller.step(bench.now + jump, state(bench.now + jump, bench.position))
    assert bench.mode is Mode.STOP


def test_a_robot_that_does_not_follow_is_stopped() -> None:
    bench = moving(replace(CONFIG, tracking_error=(0.05, 0.05), tracking_time=0.02))
    stuck = bench.position.copy()
    for _ in range(100):
        bench.step(robot=state(bench.now + DT, stuck))
    assert bench.mode is Mode.STOP
    assert "away from its command" in bench.said(EventKind.STOPPED)


def test_a_stop_is_latched_until_it_is_reset_at_rest() -> None:
    bench = moving()
    bench.step(Mailbox(request=Request.STOP))
    bench.step(Mailbox(request=Request.RESET))
    assert bench.mode is Mode.STOP
    assert "still braking" in bench.said(EventKind.REFUSED)
    bench.run(1.0)
    bench.step(Mailbox(request=Request.RESET))
    assert bench.mode is Mode.IDLE
    bench.step(Mailbox(request=Request.ARM))
    assert bench.mode is Mode.ARMED
    assert_within_limits(bench.commands, CONFIG)


def test_each_joint_gets_its_waypoints_ahead_by_its_own_latency() -> None:
    """A joint that reacts 0.1 s late is sent what the other joint is sent 0.1 s later."""
    ramp = np.linspace(0.0, 0.5, 21)[:, None].repeat(2, axis=1)
    references = []
    for latency in ((), (0.1, 0.0)):
        bench = Bench(replace(CONFIG, action_latency=latency))
        bench.send(chunk(1, bench.now, ramp, dt=0.05, times=bench.now + 0.05 * np.arange(21)))
        rows = []
        for _ in range(100):
            rows.append(bench.step().reference)
        references.append(np.stack(rows))
    plain, ahead = references
    np.testing.assert_allclose(ahead[:50, 0], plain[50:, 0], atol=1e-9)
    np.testing.assert_array_equal(ahead[:, 1], plain[:, 1])


def test_a_slow_start_limits_the_speed_at_first() -> None:
    fast, slow = Bench(), Bench(replace(CONFIG, slow_start=2.0))
    for bench in (fast, slow):
        bench.send(chunk(1, bench.now, FAR, dt=0.1))
        bench.run(0.3)
    assert np.abs(slow.position).max() < 0.5 * np.abs(fast.position).max()


def test_speed_scaling_caps_the_velocity() -> None:
    bench = Bench(replace(CONFIG, speed=0.1))
    bench.send(chunk(1, bench.now, FAR, dt=0.1))
    bench.run(0.4)
    speeds = np.abs(np.diff(np.stack(bench.commands), axis=0)).max(axis=0) / DT
    assert (speeds <= 0.1 * np.asarray(LIMITS.velocity) + 1e-9).all()
    assert speeds.max() > 0.19


def test_the_same_inputs_give_the_same_commands_bit_for_bit() -> None:
    def record() -> list[bytes]:
        bench, generator = Bench(replace(CONFIG, workspace=WORKSPACE), (0.2, 0.3)), None
        generator = np.random.default_rng(5)
        for number in range(20):
            bench.send(chunk(number, bench.now, generator.uniform(-1, 1, (5, 2))))
            bench.run(0.05)
        return [command.tobytes() for command in bench.commands]

    assert record() == record()


def test_a_command_that_fails_the_last_check_is_not_sent(monkeypatch) -> None:
    bench = moving()
    before = bench.position
    monkeypatch.setattr(bench.controller._check, "problem", lambda position: "jerk limit, joint 0")
    output = bench.step()
    assert bench.mode is Mode.STOP and EventKind.LIMIT_VIOLATION in bench.kinds()
    np.testing.assert_array_equal(output.command.position, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dt": 0.0}, "dt must be a positive time"),
        ({"dt": 0.6}, "dt must be at most 0.5 s, got 0.6: the robot would be watched less"),
        ({"stale_timeout": np.inf}, "stale_timeout must be a positive time"),
        ({"stale_timeout": 1000.0}, r"at most 10\.0 s, got 1000.*after its policy died"),
        ({"state_timeout": 30.0}, r"state_timeout must be at most 1\.0 s"),
        ({"tracking_time": 30.0}, "tracking_time must be at most .* a blocked joint"),
        ({"tracking_error": (0.1,)}, "tracking_error needs 2 values"),
        ({"action_latency": (0.1, np.nan)}, "action_latency needs 2 values"),
        ({"speed": 0.0}, "speed must be in"),
        ({"slow_start": -1.0}, "slow_start 0 s or more"),
    ],
)
def test_a_configuration_that_could_not_stop_is_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        Controller(replace(CONFIG, **change))
