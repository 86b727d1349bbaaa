"""What is special about the tasks that D4RL's datasets belong to."""

import sys
import tempfile
from contextlib import closing

import numpy as np
import pytest

from hotloop.envs import WaypointExpert, make_task, record_episode
from hotloop.envs.maze2d import GOAL_RADIUS, WanderingExpert
from hotloop.train.data.episodes import Episodes
from hotloop.train.data.matching import check_matches_task

LOCOMOTION = ("hopper", "walker2d", "halfcheetah", "ant")


@pytest.fixture
def env(request):
    with closing(make_task(request.param).make()) as env:
        yield env


@pytest.mark.parametrize("env", ["hopper"], indirect=True)
def test_the_score_is_the_normalised_sum_of_the_rewards(env):
    env.reset(0)
    rewards, done = [], False
    while not done:
        _, reward, done = env.step(np.array([0.1, -0.2, 0.3]))
        rewards.append(reward)
    assert env.score == pytest.approx((sum(rewards) + 20.272305) / (3234.3 + 20.272305))
    assert env.terminated
    assert not env.success


@pytest.mark.parametrize("name", LOCOMOTION)
def test_control_periods_and_bounds_are_the_simulators(name):
    task = make_task(name)
    with closing(task.make()) as env:
        assert env.simulator.dt == pytest.approx(task.action_spec.dt)
        gears = env.simulator.model.actuator_gear[:, 0].astype(int)
        units = [name.split("torque ")[1] for name in task.action_spec.names]
        assert units == [f"[{gear} N m]" for gear in gears]
        np.testing.assert_array_equal(env.simulator.action_space.low, task.action_spec.low)
        np.testing.assert_array_equal(env.simulator.action_space.high, task.action_spec.high)


@pytest.mark.parametrize("name", ["pen", "door", "hammer", "relocate"])
def test_hand_actions_are_named_after_the_models_actuators(name):
    task = make_task(name)
    with closing(task.make()) as env:
        model = env.simulator.model
        actuators = [model.actuator(index).name for index in range(model.nu)]
        assert env.simulator.dt == pytest.approx(task.action_spec.dt)
    assert [f"A_{name.split()[0]}" for name in task.action_spec.names] == actuators


@pytest.mark.parametrize("env", ["maze2d-umaze", "maze2d-medium", "maze2d-large"], indirect=True)
def test_staying_at_a_maze2d_goal_earns_a_reward_each_step(env):
    """The goal is in one cell, and who goes there and stays scores above D4RL's reference."""
    expert = WaypointExpert(env.simulator.maze)
    scores = []
    for seed in range(3):
        frame = first = env.reset(seed)
        expert.reset(frame, seed)
        done = False
        while not done:
            frame, reward, done = env.step(expert.act(frame))
            distance = np.linalg.norm(frame["observation.state"][:2] - first["observation.goal"])
            assert (reward == 1) == (distance <= GOAL_RADIUS)
            assert frame["reward"] == reward
        assert env.success
        assert not env.terminated
        scores.append(env.score)
    assert np.mean(scores) > 1


@pytest.mark.parametrize("env", ["maze2d-umaze"], indirect=True)
def test_maze2d_starts_as_d4rls_does(env):
    """In any free cell, at most 0.1 m from its middle, with a velocity of 0.1 m/s."""
    starts = np.stack([env.reset(seed)["observation.state"] for seed in range(200)])
    centres = {tuple(centre) for centre in np.round(starts[:, :2])}
    assert len(centres) == 7
    assert np.abs(starts[:, :2] - np.round(starts[:, :2])).max() <= 0.1
    assert starts[:, 2:].std() == pytest.approx(0.1, rel=0.2)
    goals = {tuple(env.reset(seed)["observation.goal"]) for seed in range(5)}
    assert goals == {(-1.0, 1.0)}  # row 1, column 1


def test_the_wandering_expert_goes_from_place_to_place_and_records_where_to():
    task = make_task("maze2d-umaze")
    with closing(task.make()) as env:
        expert = WanderingExpert(env.simulator.maze)
        episode = record_episode(task, env, expert, 0, keys=("observation.state",))
        again = record_episode(task, env, expert, 0, keys=("observation.state",))
    np.testing.assert_array_equal(episode.actions, again.actions)
    assert set(episode.observations) == {"observation.state"}
    assert set(episode.infos) == {"goal", "qpos", "qvel"}
    goals = episode.infos["goal"]
    changes = np.flatnonzero((goals[1:] != goals[:-1]).any(axis=1))
    assert len(changes) >= 2
    positions = episode.observations["observation.state"][changes + 1, :2]
    assert (np.linalg.norm(positions - goals[changes], axis=1) <= GOAL_RADIUS).all()


@pytest.mark.parametrize("env", ["antmaze-umaze"], indirect=True)
def test_antmaze_observes_its_place_and_starts_far_from_the_goal(env):
    frame = env.reset(0)
    start, goal = frame["observation.state"][:2], frame["observation.goal"]
    np.testing.assert_allclose(start, env.infos["qpos"][:2], atol=1e-6)
    assert np.linalg.norm(start - goal) > 4
    others = np.stack([env.reset(seed)["observation.goal"] for seed in range(5)])
    assert np.abs(others - goal).max() <= 2  # within half a cell of 4 m to each side


def test_antmaze_leaves_no_model_file_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    make_task("antmaze-umaze").make().close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("env", ["kitchen"], indirect=True)
def test_a_chore_counts_once_and_the_fourth_ends_the_episode(env):
    env.reset(0)
    data, goals = env.simulator.data, env.simulator.goal
    from gymnasium_robotics.envs.franka_kitchen.kitchen_env import OBS_ELEMENT_INDICES

    idle, earned = np.zeros(9), []
    for chore in ("kettle", "microwave", "slide cabinet", "light switch"):
        data.qpos[OBS_ELEMENT_INDICES[chore]] = goals[chore]
        data.qvel[9:] = 0
        _, reward, done = env.step(idle)
        earned.append(reward)
    assert sum(earned) == 4
    assert (env.score, env.success, env.terminated, done) == (1.0, True, True, True)


@pytest.mark.parametrize("name", ["hopper", "maze2d-umaze", "kitchen", "door", "antmaze-umaze"])
def test_a_missing_simulator_names_the_extra_to_install(name, monkeypatch):
    package = "mujoco" if name == "hopper" else "gymnasium_robotics"
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'hotloop\[mujoco\]'"):
        make_task(name).make()


def test_a_dataset_of_another_robot_is_refused_even_if_its_sizes_fit():
    """Walker2d and halfcheetah both have 17 observations and 6 actions."""
    episodes = Episodes(
        observations={"observation.state": np.zeros((2, 17), np.float32)},
        actions=np.zeros((2, 6), np.float32),
        episode_ends=np.array([2]),
        metadata={"task": "halfcheetah"},
    )
    check_matches_task(episodes, make_task("halfcheetah"))
    with pytest.raises(
        ValueError, match="was recorded in 'halfcheetah', but it is to be trained for 'walker2d'"
    ):
        check_matches_task(episodes, make_task("walker2d"))
