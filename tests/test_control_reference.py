"""The loop in plain floats gives the commands that it gives in numpy, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_limiter
from hypothesis import given, settings
from hypothesis import strategies as st
from robots import CHAIN, CONFIG, DT, LIMITS, WORKSPACE, Bench, chunk

from hotloop.real_robot.core.check import CommandCheck
from hotloop.real_robot.core.limiter import Limiter
from hotloop.real_robot.core.limits import Chain, Limits, Motion, PlainMotion, Workspace
from hotloop.real_robot.core.trajectory import Curve

SIX = Limits(
    (-1.5, -1.2, -1.2, -1.5, -2.5, -0.1),
    (1.5, 1.2, 1.2, 1.5, 2.5, 1.4),
    (2.0, 2.0, 2.0, 2.0, 3.0, 3.0),
    (10.0, 10.0, 10.0, 10.0, 20.0, 20.0),
    (400.0, 400.0, 400.0, 400.0, 800.0, 800.0),
)
ARM = Chain(
    ((0.0, 0.0, 0.1), *((0.1, 0.0, 0.05),) * 5),
    ((0.0, 0.0, 1.0), *((0.0, 1.0, 0.0),) * 3, (1.0, 0.0, 0.0), (0.6, 0.8, 0.0)),
    (0.05, 0.0, 0.02),
    (False, False, True, False, False, False),
)
BOX = Workspace(ARM, (-0.3, -0.3, None), (0.65, 0.2, 0.5))


def same(plain: list[float], array: np.ndarray) -> bool:
    return np.array(plain).tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("limits", "workspace"), [(LIMITS, None), (LIMITS, WORKSPACE), (SIX, None), (SIX, BOX)]
)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), wild=st.booleans(), speed=st.sampled_from([0.05, 0.7, 1.0]))
def test_the_limiter_gives_the_commands_of_its_numpy_form(
    limits, workspace, seed, wild, speed
) -> None:
    """Targets that follow a path, and others that are far away, far out and much too fast."""
    generator = np.random.default_rng(seed)
    ours, theirs = Limiter(limits, DT, workspace), reference_limiter.Limiter(limits, DT, workspace)
    position = np.array([0.2, 0.3] if limits is LIMITS else [0.1] * 6)
    plain, motion = PlainMotion.at_rest(position.tolist()), Motion.at_rest(position)
    target, velocity = position, np.zeros_like(position)
    for cycle in range(300):
        if cycle % (40 if wild else 1) == 0:
            spread = 3.0 if wild else 0.01
            target = target * (not wild) + generator.normal(0, spread, len(position))
            velocity = generator.normal(0, 4.0 if wild else 0.5, len(position))
        found = ours.step(plain, target.tolist(), velocity.tolist(), speed)
        expected = theirs.step(motion, target, velocity, speed)
        plain, motion = found.motion, expected.motion
        assert all(map(same, plain, motion)), cycle
        assert found.clipped == expected.clipped.any()
        assert found.guarded == expected.guarded.any()
        assert found.workspace == expected.workspace
    assert all(map(same, ours.brake(plain), theirs.brake(motion)))
    assert np.abs(position - motion.position).max() > 1e-4, "the robot did move"


@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_a_curve_is_its_numpy_form(seed, size) -> None:
    generator = np.random.default_rng(seed)
    times, waypoints = (
        np.cumsum(generator.uniform(0.001, 0.2, size)),
        generator.normal(size=(size, 3)),
    )
    curve, slopes = Curve(times, waypoints), np.zeros((size, 3))
    if size > 1:
        gaps = np.diff(times)[:, None]
        secants = np.diff(waypoints, axis=0) / gaps
        slopes[0] = secants[0]
        slopes[1:-1] = gaps[1:] * secants[:-1] + gaps[:-1] * secants[1:]
        slopes[1:-1] /= gaps[1:] + gaps[:-1]
    # Not in order: the curve keeps the piece that was asked for last.
    for time in generator.uniform(times[0] - 0.1, times[-1] + 0.1, 30):
        position, velocity = curve.at(time)
        index = int(np.searchsorted(times, time, side="right")) - 1
        if not 0 <= index < size - 1:
            assert same(position, waypoints[max(index, 0)]) and not any(velocity)
            continue
        gap = times[index + 1] - times[index]
        s, p, q = (time - times[index]) / gap, waypoints[index], waypoints[index + 1]
        m, n = gap * slopes[index], gap * slopes[index + 1]
        second, third = 3 * (q - p) - 2 * m - n, 2 * (p - q) + m + n
        assert same(position, p + s * (m + s * (second + s * third)))
        assert same(velocity, (m + s * (2 * second + s * 3 * third)) / gap)


@given(st.integers(0, 2**32 - 1))
def test_the_tool_is_where_its_array_form_has_it(seed) -> None:
    positions = np.random.default_rng(seed).uniform(-3, 3, (20, 6))
    points, clearance = ARM.tool_position(positions), BOX.clearance(positions)
    for position, point, distance in zip(positions, points, clearance, strict=True):
        assert ARM.tool_at(position.tolist()) == pytest.approx(point, abs=1e-14)
        assert BOX.clearance_at(position.tolist()) == pytest.approx(distance, abs=1e-14)
        assert BOX.farthest(position.tolist()) == pytest.approx(BOX.path_length(position))
    assert CHAIN.tool_at([0.0, 0.0]) == pytest.approx((0.7, 0.0, 0.1))


def test_the_last_checks_shares_are_the_differences_of_the_commands() -> None:
    bench, generator = Bench(replace(CONFIG, workspace=None)), np.random.default_rng(1)
    for number in range(10):
        bench.send(chunk(number, bench.now, generator.uniform(-0.9, 0.9, (4, 2))))
        bench.run(0.1)
    check, rows = CommandCheck(LIMITS, DT), np.stack([*[bench.commands[0]] * 3, *bench.commands])
    check.restart(rows[0].tolist())
    assert not any(check.problem(row.tolist()) for row in rows)
    caps = (LIMITS.velocity, LIMITS.acceleration, LIMITS.jerk)
    shares = [
        (np.abs(np.diff(rows, order, axis=0)) / (np.array(cap) * DT**order)).max()
        for order, cap in enumerate(caps, start=1)
    ]
    assert check.peaks == pytest.approx(shares, abs=1e-9)
