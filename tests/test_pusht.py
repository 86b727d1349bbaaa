import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import zarr

from hotloop.envs import make_task
from hotloop.envs.pusht import BLOCK_KEYPOINTS, PUSHT, PushT, block_keypoints

GOAL_POSE = (256.0, 256.0, np.pi / 4)


@pytest.fixture(scope="module")
def env():
    env = make_task("pusht").make()
    yield env
    env.close()


@pytest.fixture(scope="module")
def demonstrations(shared_data):
    with np.load(shared_data / "pusht_columbia" / "pusht_lowdim.npz") as file:
        return dict(file)


def block_pose(env: PushT) -> np.ndarray:
    block = env._env.unwrapped.block
    return np.array([*block.position, block.angle])


def test_the_keypoints_are_whole_pixels_shifted_by_numbers_of_seed_0():
    """As the environment that recorded the demonstrations made them up."""
    generator = np.random.default_rng(0)
    generator.integers(10_000)  # the pixel that the farthest-point sampling began with
    shift = generator.uniform(0, 1, BLOCK_KEYPOINTS.shape)
    pixels = BLOCK_KEYPOINTS - shift
    np.testing.assert_allclose(pixels, np.round(pixels), atol=1e-7)


def test_the_keypoints_lie_on_the_block():
    """Bar of 120 x 30 px from x -60 to 60, stem of 30 x 90 px below it, up to a pixel's edge."""
    x, y = BLOCK_KEYPOINTS.T
    bar = (np.abs(x) <= 62) & (y >= -2) & (y <= 33)
    stem = (np.abs(x) <= 18) & (y >= 28) & (y <= 123)
    assert (bar | stem).all()


def test_the_recorded_keypoints_follow_from_the_recorded_poses(demonstrations):
    """In the other rows the block moves and the recorder's two readings differ a little in time."""
    computed = block_keypoints(demonstrations["state"][:, 2:].astype(np.float64))
    error = np.abs(computed - demonstrations["keypoint"]).max(axis=(1, 2))
    assert np.median(error) < 1e-4
    assert (error < 1e-2).mean() > 0.9
    assert error.max() < 2.5


def test_a_turned_block_carries_its_keypoints_along():
    offset = np.array([10.0, 20.0])
    upright, turned = block_keypoints(np.array([[10.0, 20.0, 0.0], [10.0, 20.0, np.pi / 2]]))
    np.testing.assert_allclose(upright, BLOCK_KEYPOINTS + offset)
    quarter_turn = np.stack([-BLOCK_KEYPOINTS[:, 1], BLOCK_KEYPOINTS[:, 0]], axis=-1)
    np.testing.assert_allclose(turned, quarter_turn + offset)


def test_a_reset_gives_the_start_that_gym_pusht_draws_from_the_seed(env):
    reference = gymnasium.make("gym_pusht/PushT-v0", disable_env_checker=True)
    for seed in (0, 100_000):
        state, _ = reference.reset(seed=seed)
        frame = env.reset(seed)
        np.testing.assert_allclose(frame["observation.state"], state[:2], rtol=1e-6)
        keypoints = block_keypoints(state[2:]).ravel()
        np.testing.assert_allclose(frame["observation.environment_state"], keypoints, rtol=1e-6)


def test_frames_are_as_the_task_says(env):
    frame, reward, done = env.reset(3), 0.0, False
    for _ in range(2):
        assert {key: values.shape for key, values in frame.items()} == PUSHT.observation_shapes
        assert {values.dtype for values in frame.values()} == {np.dtype(np.float32)}
        frame, reward, done = env.step(np.array([100.0, 100.0]))
    assert type(reward) is float
    assert done is False


def test_the_same_seed_and_actions_give_the_same_episode(env):
    def run():
        env.reset(5)
        actions = np.random.default_rng(0).uniform(100, 400, (20, 2))
        return np.stack(
            [env.step(action)[0]["observation.environment_state"] for action in actions]
        )

    np.testing.assert_array_equal(run(), run())


def test_a_set_state_comes_out_as_it_was_recorded(env, demonstrations):
    starts = np.r_[0, demonstrations["episode_ends"][:-1]]
    for state in demonstrations["state"][starts]:
        frame = env.set_state(state)
        np.testing.assert_allclose(block_pose(env), state[2:], atol=1e-9)
        np.testing.assert_array_equal(frame["observation.state"], state[:2])


def test_the_picture_is_the_recorded_one_up_to_the_edges_of_shapes(shared_data):
    """Another pygame draws a polygon's edge half a pixel elsewhere; nothing else may differ."""
    path = shared_data / "pusht_columbia" / "pusht_cchi_v7_replay.zarr.zip"
    with zarr.storage.ZipStore(path, mode="r") as store:
        data = zarr.open_group(store, mode="r")["data"]
        states, recorded = data["state"][:161], data["img"][:161]
    env = make_task("pusht-image").make()
    for row in (0, 40, 80, 120, 160):
        frame = env.set_state(states[row])
        np.testing.assert_array_equal(frame["observation.state"], states[row, :2])
        picture = frame["observation.image"]
        assert (picture.dtype, picture.shape) == (np.uint8, (96, 96, 3))
        difference = np.abs(picture - recorded[row])
        assert difference.mean() < 0.2
        assert (difference.max(axis=-1) > 4).mean() < 0.01
    env.close()


def test_the_image_task_goes_as_the_state_task_does(env):
    seeing = make_task("pusht-image").make()
    frames = [environment.reset(100_000) for environment in (env, seeing)]
    for _ in range(3):
        np.testing.assert_array_equal(*(frame["observation.state"] for frame in frames))
        np.testing.assert_array_equal(block_pose(env), block_pose(seeing))
        frames = [environment.step(np.array([200.0, 300.0]))[0] for environment in (env, seeing)]
    assert set(frames[1]) == {"observation.image", "observation.state"}
    seeing.close()


def test_a_reset_to_a_state_would_move_the_block(env):
    """Why `set_state` does not pass its state on: the turn about the centre of gravity."""
    env._env.reset(options={"reset_to_state": np.array([100.0, 120.0, 200.0, 300.0, 1.0])})
    assert np.linalg.norm(block_pose(env)[:2] - [200, 300]) > 40


@pytest.mark.parametrize("episode", [6, 18, 30])
def test_the_recorded_actions_lead_to_the_recorded_positions(env, demonstrations, episode):
    ends = demonstrations["episode_ends"]
    rows = range(ends[episode - 1] if episode else 0, ends[episode])
    frame = env.set_state(demonstrations["state"][rows[0]])
    errors = []
    for row in rows:
        expected = demonstrations["state"][row]
        pose = block_pose(env)[:2]
        errors.append(np.abs(np.r_[frame["observation.state"], pose] - expected[:4]).max())
        frame, _, _ = env.step(demonstrations["action"][row].astype(np.float64))
    assert np.median(errors) < 1e-3
    assert errors[-1] < 1e-2


def test_a_block_on_its_mark_is_a_success_and_ends_the_episode(env):
    env.set_state([50.0, 50.0, *GOAL_POSE])
    assert (env.score, env.success) == (0.0, False)
    _, reward, done = env.step(np.array([50.0, 50.0]))
    assert (reward, done, env.score, env.success) == (1.0, True, 1.0, True)


def test_the_score_is_the_largest_coverage_so_far_over_95_percent(env):
    """From half on its mark, the block is pushed away."""
    x, y, angle = GOAL_POSE
    env.set_state([x - 150.0, y - 60.0, x, y - 20.0, angle])
    rewards = [env.step(np.array([x + 200.0, y]))[1] for _ in range(15)]
    coverage = env._env.unwrapped._get_coverage()
    assert rewards[-1] == pytest.approx(coverage / 0.95)
    assert rewards[-1] < rewards[0] < 1
    assert env.score == max(rewards)
    assert not env.success
    env.reset(0)
    assert env.score == 0


def test_an_unsolved_episode_ends_after_the_tasks_steps(env):
    env.set_state([50.0, 50.0, 300.0, 300.0, 0.0])
    done = [env.step(np.array([50.0, 50.0]))[2] for _ in range(PUSHT.max_steps)]
    assert done.index(True) == PUSHT.max_steps - 1


def test_the_picture_is_rgb_and_shows_the_block(env):
    env.set_state([50.0, 50.0, 300.0, 300.0, 0.0])
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.shape == (320, 320, 3)
    inside, beside = picture[196, 187].astype(int), picture[300, 60].astype(int)
    assert np.abs(inside - beside).max() > 50


def test_a_missing_gym_pusht_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gym_pusht", None)
    with pytest.raises(ImportError, match=r"pip install 'hotloop\[pusht\]'"):
        make_task("pusht").make()


@pytest.mark.parametrize("state", [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0, np.nan]])
def test_a_state_that_is_none_is_refused(env, state):
    with pytest.raises(ValueError, match="five finite numbers: agent x, y, block x, y, angle"):
        env.set_state(state)


@pytest.mark.parametrize("name", ["pusht", "pointmaze-umaze"])
def test_starting_a_simulator_prints_nothing(name):
    code = f"from hotloop.envs import make_task; make_task({name!r}).make().reset(0)"
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
