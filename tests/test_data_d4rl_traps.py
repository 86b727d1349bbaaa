"""D4RL's optional columns, and the traps in its files that need an explicit option."""

import re

import numpy as np
import pytest
from example_episodes import write_d4rl_columns

from hotloop.train.data import ReadOptions, read_episodes


def assert_error(message, call, *args):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        call(*args)


def test_next_observations_give_what_was_seen_after_the_last_action(tmp_path):
    following = np.arange(32.0).reshape(8, 4)
    path = write_d4rl_columns(tmp_path / "a.hdf5", next_observations=following)
    final = read_episodes(path).final_observations
    assert final is not None
    np.testing.assert_array_equal(final["observation.state"], following[[2, 6, 7]])
    write_d4rl_columns(path, next_observations=following[:5])
    assert_error(f"{path}: 'next_observations' has 5 steps, but 'obs", read_episodes, path)


def test_a_file_without_timeouts_is_cut_at_the_time_limit(tmp_path):
    """Kitchen's files: after each terminal state the count of steps starts anew."""
    path = write_d4rl_columns(tmp_path / "a.hdf5", timeouts=None)
    options = ReadOptions(max_episode_steps=2)
    episodes = read_episodes(path, options=options)
    assert episodes.episode_ends.tolist() == [2, 3, 5, 7, 8]
    assert episodes.terminated.tolist() == [False, True, False, False, False]
    assert episodes.metadata["num_unfinished"] == 1
    write_d4rl_columns(path, timeouts=None, terminals=np.zeros(8, bool))
    episodes = read_episodes(path, options=options)
    assert episodes.episode_ends.tolist() == [2, 4, 6, 8]
    assert episodes.metadata["num_unfinished"] == 0


def test_rewards_of_maze2d_can_be_moved_to_the_action_that_earned_them(tmp_path):
    """Its file has at step t the reward of state t; the action before led there."""
    rewards = np.array([0, 0, 0, 1, 1, 0, 0, 1.0])
    path = write_d4rl_columns(tmp_path / "a.hdf5", rewards=rewards, terminals=np.zeros(8, bool))
    shifted = read_episodes(path, options=ReadOptions(shift_rewards=True))
    assert shifted.rewards is not None
    assert shifted.rewards.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    write_d4rl_columns(path)
    message = f"{path}: column 'rewards' cannot be opened: shift_rewards is for maze2d, whose"
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        read_episodes(path, options=ReadOptions(shift_rewards=True))


def test_the_metadata_group_gives_its_single_values(tmp_path):
    path = write_d4rl_columns(
        tmp_path / "a.hdf5",
        **{
            "metadata/algorithm": "SAC",
            "metadata/iteration": 3000,
            "metadata/policy/fc0/weight": np.ones((2, 2)),
        },
    )
    assert read_episodes(path).metadata["d4rl"] == {"algorithm": "SAC", "iteration": 3000}
