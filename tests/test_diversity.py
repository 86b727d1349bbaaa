"""How varied actions are: known distributions have known distances, collapse is seen."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import SHAPES, SPEC, tiny_model

from hotloop.decoding import ActionTrajectory, Observation, ObservationSpec
from hotloop.envs.rollout import Episode, Evaluation
from hotloop.policies.diffusion.config import DiffusionSampling
from hotloop.policies.diffusion.policy import DiffusionPolicy
from hotloop.train.measure.diversity import (
    action_samples,
    compare_samples,
    energy_distance,
    mean_distance,
)
from hotloop.train.measure.executed import Watched, rms_jerk


def normal(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_distances_of_normal_numbers_are_those_of_the_formula() -> None:
    """For N(0, 1), E|X - X'| is 2 / sqrt(pi); shifted far by m, E|X - Y| is m."""
    first, second = normal(0, (4000, 1)), normal(1, (4000, 1))
    assert mean_distance(first) == pytest.approx(2 / np.sqrt(np.pi), rel=0.03)
    assert energy_distance(first, second) == pytest.approx(0, abs=0.01)
    far = energy_distance(first, second + 10)
    assert far == pytest.approx(20 - 4 / np.sqrt(np.pi), rel=0.03)


def test_few_samples_of_one_distribution_are_at_no_distance_on_average() -> None:
    """Without the correction for equal pairs the mean would be 2 * 1.13 / 5."""
    found = [energy_distance(normal(i, (5, 1)), normal(10_000 + i, (5, 1))) for i in range(3000)]
    assert np.mean(found) == pytest.approx(0, abs=0.03)


def test_a_student_of_half_the_spread_has_half_the_diversity() -> None:
    teacher, student = normal(0, (4, 256, 3)), 0.5 * normal(1, (4, 256, 3))
    same = compare_samples(teacher, normal(2, (4, 256, 3)))
    half = compare_samples(teacher, student)
    assert (same.ratio, same.energy_distance) == pytest.approx((1, 0), abs=0.03)
    assert half.ratio == pytest.approx(0.5, abs=0.02)
    assert half.energy_distance > 0.05
    assert (same.collapsed, half.collapsed) == (False, True)


def test_the_mean_of_two_modes_is_a_collapse() -> None:
    sides = np.random.default_rng(0).choice([-1.0, 1.0], (2, 256, 1))
    middle = compare_samples(sides, 1e-3 * normal(1, (2, 256, 1)))
    assert middle.ratio < 0.01 and middle.collapsed
    assert middle.energy_distance > 0.5


def test_a_teacher_without_choice_has_no_diversity_to_lose() -> None:
    found = compare_samples(np.zeros((2, 3, 1)), np.zeros((2, 3, 1)))
    assert np.isnan(found.ratio) and not found.collapsed


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 1, 3), (2, 4, 3)), "at least two samples"),
        (((2, 4, 3), (3, 4, 3)), "of the same states and features"),
    ],
)
def test_samples_that_cannot_be_compared_are_refused(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compare_samples(*(np.zeros(shape) for shape in shapes))


def test_samples_are_the_plans_of_their_states_and_seeds() -> None:
    policy = DiffusionPolicy(tiny_model(), SPEC, DiffusionSampling(3, 2))
    frames = {key: normal(0, (2, 2, *shape)).astype("float32") for key, shape in SHAPES.items()}
    samples = action_samples(policy, frames, num_samples=4, seed=7)
    assert samples.shape == (2, 4, 3 * 2)
    policy.reset(np.array([7 + 4 + 1]))  # second sample of the second state
    seen = {key: frame[1:] for key, frame in frames.items()}
    plan = policy.plan(Observation(seen, np.zeros(1, int), np.arange(1)), np.zeros(1, int))
    scale = np.subtract(SPEC.high, SPEC.low) / 2
    expected = (plan.actions[0, :3] / scale).ravel()
    np.testing.assert_allclose(samples[1, 1], expected, atol=1e-5)
    assert np.abs(samples[0, 0] - samples[0, 1]).max() > 1e-3


class Counting:
    """Plans the step and the seed of its row, from one step before the one that is asked for."""

    action_spec, num_execute = SPEC, 2
    observation_spec = ObservationSpec({}, 1)

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        rows = np.arange(len(seeds)) if rows is None else rows
        self.seeds = getattr(self, "seeds", {}) | dict(zip(rows.tolist(), seeds, strict=True))

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        steps = step[:, None] - 1 + np.arange(5)
        seeds = np.array([self.seeds[row] for row in observation.rows.tolist()])
        actions = np.stack([steps, np.broadcast_to(seeds[:, None], steps.shape)], axis=-1)
        return ActionTrajectory.clean(actions, step - 1, step - 1, SPEC.dt)


def test_what_is_kept_of_an_episode_is_what_was_executed() -> None:
    watched = Watched(Counting())
    watched.reset(np.array([5, 6]))
    rows, no_frames = np.arange(2), {}
    for step in (0, 2):
        steps = np.full(2, step)
        watched.plan(Observation(no_frames, steps, rows), steps)
    watched.reset(np.array([9]), np.array([0]))  # the next episode of the first row
    watched.plan(Observation(no_frames, np.zeros(1, int), rows[:1]), np.zeros(1, int))
    ends = ((0, 5, 3), (1, 6, 4), (2, 9, 2))
    done = tuple(Episode(i, seed, 0.0, False, 0.0, 0.0, num) for i, seed, num in ends)
    kept = watched.episodes(Evaluation("task", "score", done, 1.0, 1.0))
    assert [actions[:, 0].tolist() for actions in kept] == [[0, 1, 2], [0, 1, 2, 3], [0, 1]]
    assert [actions[0, 1] for actions in kept] == [5, 6, 9]


def test_the_jerk_of_a_cubic_is_its_third_derivative() -> None:
    time = SPEC.dt * np.arange(30)[:, None]
    half = np.subtract(SPEC.high, SPEC.low) / 2
    cubic = half * time**3 * [1.0, 0.0]
    assert rms_jerk([cubic], SPEC) == pytest.approx(6 / np.sqrt(2))
    assert rms_jerk([cubic, half * time**2], SPEC) == pytest.approx(6 / 2)
    assert np.isnan(rms_jerk([cubic[:3]], SPEC))
