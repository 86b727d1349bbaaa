"""The course of two pillars: contact ends an episode, and the driver is as likely on any side."""

from __future__ import annotations

import numpy as np
import pytest

from hotloop.envs import SCRIPTED_EXPERTS, make_task, record_episode
from hotloop.envs.pillars import (
    DT,
    GOAL,
    GOAL_RADIUS,
    MAX_SPEED,
    PILLAR_RADIUS,
    PILLARS,
    PUCK_RADIUS,
    START,
    START_SPREAD,
    Pillars,
    PillarsExpert,
)

pytest.importorskip("mujoco")

TASK = make_task("pillars")
STATE = "observation.state"


@pytest.fixture(scope="module")
def env() -> Pillars:
    made = TASK.make()
    assert isinstance(made, Pillars)
    return made


def drive(env: Pillars, velocity: tuple[float, float], num: int) -> np.ndarray:
    """States of an episode with one velocity, shape (T, 4)."""
    states = []
    for _ in range(num):
        frame, _, done = env.step(np.array(velocity))
        states.append(frame[STATE])
        if done:
            break
    return np.stack(states)


def test_it_starts_at_rest_somewhere_around_the_start(env: Pillars) -> None:
    states = np.stack([env.reset(seed)[STATE] for seed in range(50)])
    assert (states[:, 2:] == 0).all()
    offsets = np.abs(states[:, :2] - START)
    assert offsets.max() <= START_SPREAD + 1e-6
    assert (offsets.max(axis=0) > 0.8 * START_SPREAD).all()


def test_a_velocity_is_reached_after_a_while_and_not_at_once(env: Pillars) -> None:
    env.reset(0)
    speeds = drive(env, (0.5, 0.5), 8)[:, 2:]
    # A force of 4 N on 1 kg: at most 4 m/s^2.
    assert (speeds[0] <= 4 * DT + 1e-6).all()
    np.testing.assert_allclose(speeds[-1], 0.5, atol=0.05)
    assert (np.diff(speeds, axis=0) > 0).all()


def test_straight_ahead_touches_the_first_pillar_which_ends_the_episode(env: Pillars) -> None:
    env.reset(0)
    states = drive(env, (0.8, 0.0), TASK.max_steps)
    assert env.terminated
    assert not env.success
    assert env.score == 0.0
    distance = np.hypot(states[-1, 0] - PILLARS[0], states[-1, 1])
    assert distance == pytest.approx(PILLAR_RADIUS + PUCK_RADIUS, abs=0.01)
    assert len(states) < TASK.max_steps


def test_a_miss_by_little_is_no_contact(env: Pillars) -> None:
    reach = PILLAR_RADIUS + PUCK_RADIUS
    for gap, touches in ((-0.005, True), (0.005, False)):
        env.reset(0)
        env._data.qpos[:] = (PILLARS[0], reach + gap)
        env.step(np.zeros(2))
        assert env.terminated is touches


def test_the_goal_is_reached_within_its_radius(env: Pillars) -> None:
    for distance, reached in ((GOAL_RADIUS - 0.005, True), (GOAL_RADIUS + 0.005, False)):
        env.reset(0)
        env._data.qpos[:] = (GOAL[0], GOAL[1] + distance)
        _, reward, done = env.step(np.zeros(2))
        assert (env.success, env.terminated, done, reward) == (reached, reached, reached, reached)


def test_the_scene_is_its_own_mirror_image(env: Pillars) -> None:
    paths = []
    for side in (1.0, -1.0):
        env.reset(0)
        env._data.qpos[1] *= side
        paths.append(drive(env, (0.5, 0.3 * side), 20) * [1, side, 1, side])
    np.testing.assert_allclose(paths[0], paths[1], atol=1e-6)


def test_the_driver_arrives_on_both_sides_alike_without_touching(env: Pillars) -> None:
    expert = SCRIPTED_EXPERTS["pillars"]
    sides = []
    for seed in range(60):
        driver = expert.make(env)
        episode = record_episode(TASK, env, driver, seed, action_noise=expert.action_noise)
        assert episode.success, f"seed {seed}"
        assert np.abs(episode.actions).max() <= MAX_SPEED
        state = episode.observations[STATE]
        sides.append([state[np.abs(state[:, 0] - x).argmin(), 1] > 0 for x in PILLARS])
    ways, counts = np.unique(sides, axis=0, return_counts=True)
    # Four ways of 15 expected: less than 5 has a probability of 0.1 % each.
    assert len(ways) == 4
    assert counts.min() >= 5


def test_the_start_does_not_tell_the_side(env: Pillars) -> None:
    """The driver's choices come from numbers of their own, not from those of the start."""
    starts, sides = [], []
    for seed in range(400):
        frame = env.reset(seed)
        driver = PillarsExpert()
        driver.reset(frame, seed)
        starts.append(frame[STATE][1])
        sides.append(np.sign(driver._heights))
    correlations = np.corrcoef(np.column_stack([starts, sides]).T)[0, 1:]
    assert np.abs(correlations).max() < 0.15  # three standard errors


def test_the_picture_shows_where_the_puck_is(env: Pillars) -> None:
    env.reset(0)
    before = env.render()
    drive(env, (0.8, 0.0), 8)
    moved = (before != env.render()).any(axis=(0, 2))
    x = (np.flatnonzero(moved) + 0.5 - before.shape[1] / 2) / 320 + 0.5
    assert x.min() == pytest.approx(START[0], abs=START_SPREAD + PUCK_RADIUS + 0.01)
    assert x.max() < PILLARS[0]
