"""The contract of `hotloop.envs.Environment`, for every registered task that is installed."""

import time
from contextlib import closing

import numpy as np
import pytest

from hotloop.decoding.instruction import INSTRUCTION_KEY
from hotloop.envs import TASKS, make_task
from hotloop.envs.recording import HasInfos

NUM_STEPS = 6
SECONDS_PER_EPISODE = 2  # whole episodes of slower simulators are left out
# Pictures of these come from the code that those of `lift-image` come from, but take long.
LIKE_LIFT_IMAGE = ("can-image", "square-image")


@pytest.fixture(
    scope="module", params=[name for name in TASKS.names if name not in LIKE_LIFT_IMAGE]
)
def task(request):
    return make_task(request.param)


@pytest.fixture(scope="module")
def env(task):
    try:
        env = task.make()
    except ImportError as error:
        pytest.skip(str(error))
    with closing(env):
        yield env


def actions(task, seed=0):
    """Random actions, half as large as allowed."""
    spec, rng = task.action_spec, np.random.default_rng(seed)
    low, high = np.array(spec.low), np.array(spec.high)
    middle, half = (low + high) / 2, (high - low) / 2
    return middle + half * rng.uniform(-0.5, 0.5, (NUM_STEPS, spec.size))


def roll(env, task, seed):
    """Frames and rewards of a few random actions; the episode goes on."""
    frames, rewards = [env.reset(seed)], []
    for action in actions(task):
        frame, reward, done = env.step(action)
        frames.append(frame)
        rewards.append(reward)
        assert not done
    return frames, rewards


def test_frames_are_as_the_task_says(env, task):
    frames, rewards = roll(env, task, seed=0)
    for frame in frames:
        assert {key: array.shape for key, array in frame.items()} == dict(task.observation_shapes)
        for key, array in frame.items():
            in_bytes = array.ndim == 3 or key == INSTRUCTION_KEY
            assert array.dtype == (np.uint8 if in_bytes else np.float32), key
            assert np.isfinite(array).all(), key
    if "reward" in frames[0]:
        assert [frame["reward"].item() for frame in frames] == [0, *np.float32(rewards)]


def test_the_same_seed_gives_the_same_episode(env, task):
    first, rewards = roll(env, task, seed=3)
    other, _ = roll(env, task, seed=4)
    again, same_rewards = roll(env, task, seed=3)
    assert rewards == same_rewards
    for one, two in zip(first, again, strict=True):
        for key, array in one.items():
            np.testing.assert_array_equal(array, two[key], err_msg=key)
    assert any((array != other[0][key]).any() for key, array in first[0].items())


def test_frames_and_actions_stay_as_they_were(env, task):
    frame, action = env.reset(0), np.array(task.action_spec.high)
    copies = {key: array.copy() for key, array in frame.items()}
    env.step(action)
    env.step(np.array(task.action_spec.low))
    np.testing.assert_array_equal(action, task.action_spec.high)
    for key, array in copies.items():
        np.testing.assert_array_equal(frame[key], array, err_msg=key)


def test_an_action_moves_the_scene(env, task):
    frames, _ = roll(env, task, seed=0)
    assert any((array != frames[0][key]).any() for key, array in frames[-1].items())


def test_outcomes_start_afresh_with_an_episode(env, task):
    env.reset(0)
    start = env.score
    for action in actions(task):
        env.step(action)
        assert isinstance(env.success, bool)
        assert isinstance(env.terminated, bool)
        assert np.isfinite(env.score)
        assert task.reference is not None or 0 <= env.score <= 1
    env.reset(1)
    assert (env.score, env.success, env.terminated) == (start, False, False)


def test_an_episode_ends_in_a_terminal_state_or_after_the_tasks_steps(env, task):
    env.reset(0)
    action = np.add(task.action_spec.low, task.action_spec.high) / 2
    began, done, num_steps = time.perf_counter(), False, 0
    while not done:
        if num_steps == NUM_STEPS:
            per_step = (time.perf_counter() - began) / num_steps
            if per_step * task.max_steps > SECONDS_PER_EPISODE:
                pytest.skip(f"too slow for a whole episode: {1 / per_step:.0f} steps/s")
        _, _, done = env.step(action)
        num_steps += 1
        assert done or not env.terminated
        assert num_steps <= task.max_steps
    assert env.terminated or num_steps == task.max_steps


def test_what_is_recorded_besides_keeps_its_shape(env, task):
    if not isinstance(env, HasInfos):
        pytest.skip("tells nothing besides")
    env.reset(0)
    before = env.infos
    copies = {key: array.copy() for key, array in before.items()}
    env.step(actions(task)[0])
    assert {key: array.shape for key, array in env.infos.items()} == {
        key: array.shape for key, array in before.items()
    }
    for key, array in copies.items():
        np.testing.assert_array_equal(before[key], array)


def test_pictures_are_rgb(env, task):
    env.reset(0)
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    # Video codecs want even sides.
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
    assert picture.min() < picture.max()


def test_a_task_states_its_spaces(task):
    spec = task.action_spec
    assert len(set(spec.names)) == spec.size
    assert all("[" in name for name in spec.names)
    assert spec.dt > 0
    assert task.max_steps > 0
    assert task.metric
    assert task.simulator
