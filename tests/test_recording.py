"""What recorded demonstrations hold."""

import numpy as np
import pytest

from hotloop.envs import WaypointExpert, make_task, record_episode

UMAZE = make_task("pointmaze-umaze")


@pytest.fixture(scope="module")
def env():
    env = UMAZE.make()
    yield env
    env.close()


@pytest.fixture(scope="module")
def record(env):
    expert = WaypointExpert(env.maze)
    return lambda seed, **options: record_episode(UMAZE, env, expert, seed, **options)


def test_an_episode_is_arrays_of_equal_length_within_the_action_spec(record):
    episode = record(4, action_noise=0.3)
    num_steps = len(episode.actions)
    assert episode.actions.dtype == np.float32
    assert episode.actions.shape == (num_steps, 2)
    assert episode.rewards.tolist() == [0.0] * (num_steps - 1) + [1.0]
    UMAZE.action_spec.check(episode.actions)
    for key, shape in UMAZE.observation_shapes.items():
        assert episode.observations[key].shape == (num_steps, *shape)
        assert episode.observations[key].dtype == np.float32
        assert episode.final_observations[key].shape == shape


def test_an_episode_depends_on_its_seed_alone(record):
    first, other, again = (record(seed, action_noise=0.3).actions for seed in (0, 1, 0))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[:10], other[:10])


def test_executed_actions_replay_to_the_recorded_observations(env, record):
    episode = record(4, action_noise=0.5)
    frame = env.reset(4)
    for action, state in zip(
        episode.actions, episode.observations["observation.state"], strict=True
    ):
        np.testing.assert_array_equal(frame["observation.state"], state)
        frame, _, done = env.step(action)
    assert done
    np.testing.assert_array_equal(
        frame["observation.state"], episode.final_observations["observation.state"]
    )


def test_intended_actions_are_the_experts_and_not_the_noisy_ones(env, record):
    episode = record(4, action_noise=0.5, record_intended=True)
    expert = WaypointExpert(env.maze)
    frames = [
        {key: array[step] for key, array in episode.observations.items()}
        for step in range(len(episode.actions))
    ]
    expert.reset(frames[0], seed=4)
    wanted = np.stack([expert.act(frame) for frame in frames])
    np.testing.assert_allclose(episode.actions, wanted, atol=1e-6)
    executed = record(4, action_noise=0.5)
    assert len(executed.actions) == len(episode.actions)
    assert not np.array_equal(executed.actions, episode.actions)


@pytest.mark.parametrize("noise", [-0.1, np.nan])
def test_a_noise_that_is_no_standard_deviation_is_refused(record, noise):
    with pytest.raises(ValueError, match="action_noise must be 0 or more"):
        record(0, action_noise=noise)
