import sys
import tempfile

import numpy as np
import pytest
from scipy.sparse.csgraph import shortest_path as scipy_shortest_path

from hotloop.envs import WaypointController, WaypointExpert, make_task, record_episode
from hotloop.envs.pointmaze import GOAL_RADIUS, POINTMAZE_TASKS
from hotloop.envs.waypoint_controller import shortest_path

NAMES = [task.name for task in POINTMAZE_TASKS]
UMAZE = make_task("pointmaze-umaze")


@pytest.fixture(scope="module")
def env():
    env = UMAZE.make()
    yield env
    env.close()


def test_frames_are_as_the_task_says(env):
    frame = env.reset(3)
    for _ in range(2):
        assert {key: values.shape for key, values in frame.items()} == UMAZE.observation_shapes
        assert {values.dtype for values in frame.values()} == {np.dtype(np.float32)}
        frame, reward, done = env.step(np.array([0.0, 0.0]))
        assert (reward, done) == (0.0, False)


def test_a_step_lasts_the_control_period_of_the_action_spec(env):
    before = env.reset(0)["observation.state"]
    after = env.step(np.array([0.0, 1.0]))[0]["observation.state"]
    np.testing.assert_allclose(after[:2] - before[:2], after[2:] * UMAZE.action_spec.dt, atol=1e-6)
    assert after[3] > 0.1


def test_a_reset_depends_on_its_seed_alone(env):
    first = env.reset(7)
    env.step(np.array([1.0, -1.0]))
    other, again = env.reset(8), env.reset(7)
    for key, values in first.items():
        np.testing.assert_array_equal(values, again[key])
    assert np.abs(first["observation.goal"] - other["observation.goal"]).max() > 0


def test_reaching_the_goal_is_a_success_and_ends_the_episode(env):
    frame, done, steps = env.reset(0), False, 0
    controller = WaypointController(env.maze)
    controller.reset(frame["observation.state"], frame["observation.goal"])
    while not done:
        assert (env.score, env.success) == (0.0, False)
        frame, reward, done = env.step(controller.act(frame["observation.state"]))
        steps += 1
    distance = np.linalg.norm(frame["observation.state"][:2] - frame["observation.goal"])
    assert distance <= GOAL_RADIUS
    assert (reward, env.score, env.success) == (1.0, 1.0, True)
    assert steps < UMAZE.max_steps


def test_an_unsolved_episode_ends_after_the_tasks_steps(env):
    env.reset(0)
    done = [env.step(np.zeros(2))[2] for _ in range(UMAZE.max_steps)]
    assert done.index(True) == UMAZE.max_steps - 1
    assert (env.score, env.success) == (0.0, False)


def test_the_picture_shows_walls_goal_and_ball_where_they_are(env):
    frame = env.reset(1)
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.shape == (240, 240, 3)

    def colour(position):
        x, y = position
        return tuple(picture[int((2.5 - y) * 48), int((x + 2.5) * 48)].tolist())

    wall, floor = colour((-2.4, 2.4)), colour((1.0, 0.4))
    ball = colour(frame["observation.state"][:2])
    goal = colour(frame["observation.goal"])
    assert len({wall, floor, ball, goal}) == 4


def test_no_model_file_is_left_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    UMAZE.make().close()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_simulator_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    with pytest.raises(ImportError, match=r"pip install 'hotloop\[mujoco\]'"):
        UMAZE.make()


def test_a_path_is_connected_free_and_as_short_as_scipys():
    env = make_task("pointmaze-large").make()
    maze_map = env.maze.maze_map
    cells = [(i, j) for i, row in enumerate(maze_map) for j, cell in enumerate(row) if cell != 1]
    array = np.array(cells)
    adjacent = np.abs(array[:, None] - array).sum(axis=-1) == 1
    distance = scipy_shortest_path(adjacent, unweighted=True)
    for a, start in enumerate(cells):
        for b, goal in enumerate(cells):
            path = shortest_path(maze_map, start, goal)
            assert (path[0], path[-1]) == (start, goal)
            assert set(path) <= set(cells)
            assert (np.abs(np.diff(path, axis=0)).sum(axis=1) == 1).all()
            assert len(path) - 1 == distance[a, b]


def test_a_goal_behind_walls_is_refused():
    with pytest.raises(ValueError, match=r"no path leads from cell \(0, 0\) to cell \(0, 2\)"):
        shortest_path([[0, 1, 0]], (0, 0), (0, 2))


@pytest.mark.parametrize("name", NAMES)
def test_the_controller_always_reaches_the_goal(name):
    task = make_task(name)
    env = task.make()
    expert = WaypointExpert(env.maze)
    seeds = range(1000, 1025)
    episodes = [record_episode(task, env, expert, seed, action_noise=0.3) for seed in seeds]
    assert all(episode.success for episode in episodes)
    assert max(len(episode.actions) for episode in episodes) < 0.75 * task.max_steps
