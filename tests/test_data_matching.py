"""A dataset of another environment is refused before anything is trained."""

import re
from dataclasses import replace
from importlib import metadata

import numpy as np
import pytest
from example_episodes import make_episodes

from hotloop.decoding import ActionSpec
from hotloop.envs.registry import make_task
from hotloop.envs.task import Task
from hotloop.train.config.training import TaskConfig, TrainConfig
from hotloop.train.data import write_episodes
from hotloop.train.data.episodes import Episodes
from hotloop.train.data.matching import check_actions, check_matches_task
from hotloop.train.training import train

SPEC = ActionSpec(("x [m]", "y [m]"), (-1.0, -1.0), (1.0, 1.0), dt=0.1)
SHAPES = {"observation.state": (4,), "observation.goal": (2,)}
TASK = Task("reach", SPEC, SHAPES, 100, "distance", lambda: pytest.fail("started"))


def test_episodes_of_the_task_pass():
    check_matches_task(make_episodes(), TASK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"actions": np.zeros((12, 7), np.float32)},
            "a.hdf5 is of another environment than 'reach': its actions have 7 numbers, the "
            "task's 2",
        ),
        (
            {"observations": {"observation.state": np.zeros((12, 17), np.float32)}},
            "a.hdf5 is of another environment than 'reach': 'observation.state' has shape (17,), "
            "the task's (4,)",
        ),
        (
            {"observations": {"observation.object": np.zeros((12, 10), np.float32)}},
            "a.hdf5 has 'observation.object', which 'reach' does not observe; choose columns with "
            "task.keys, the task has observation.state, observation.goal",
        ),
    ],
)
def test_other_episodes_are_named_with_expected_and_found(change, message):
    source = {"source": "a.hdf5"}
    episodes = replace(make_episodes(final=False), metadata=source, **change)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_matches_task(episodes, TASK)


def test_another_robosuite_release_is_refused(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: "1.5.1")
    env_args = {"env_name": "Lift", "type": 1, "env_version": "1.4.1"}
    episodes = replace(make_episodes(), metadata={"source": "a.hdf5", "env_args": env_args})
    with pytest.raises(ValueError, match=r"a\.hdf5 was recorded with robosuite 1\.4\.1, but 1\.5"):
        check_matches_task(episodes, TASK)


def test_training_refuses_before_its_first_step(tmp_path):
    path = write_episodes(tmp_path / "a.hdf5", make_episodes())
    keys = {"observation.state": "observations", "action": "actions"}
    task = TaskConfig("pusht", str(path), keys)
    with pytest.raises(ValueError, match=r"observation\.state' has shape \(6,\), the task's \(2,"):
        train(TrainConfig(task=task, output_dir=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("facts", "task", "told"),
    [
        ({"task": "pointmaze-large"}, "pointmaze-umaze", "pointmaze-large"),
        ({"simulator": "PointMaze_Large-v3"}, "pointmaze-medium", "PointMaze_Large-v3"),
        (
            {"minari": {"env_spec": {"id": "PointMaze_Large-v3"}}},
            "pointmaze-umaze",
            "PointMaze_Large-v3",
        ),
        (
            {"minari": {"env_spec": '{"id": "AntMaze_Medium_Diverse_GR-v4"}'}},
            "antmaze-large",
            "AntMaze_Medium_Diverse_GR-v4",
        ),
        ({"env_args": {"env_name": "PickPlaceCan"}}, "lift", "PickPlaceCan"),
        ({"task": "hopper"}, "walker2d", "hopper"),
    ],
)
def test_a_dataset_that_names_another_environment_is_refused(facts, task, told):
    task = make_task(task)
    with pytest.raises(ValueError, match=f"was recorded in '{told}', .* '{task.name}'"):
        check_matches_task(episodes_of(task, **facts), task)
    check_matches_task(episodes_of(task, **facts), task, check=False)


@pytest.mark.parametrize(
    ("facts", "task"),
    [
        ({"task": "lift"}, "lift"),
        ({"task": "kitchen"}, "kitchen-mixed"),
        ({"minari": {"env_spec": {"id": "PointMaze_UMazeDense-v3"}}}, "pointmaze-umaze"),
        ({"minari": {"env_spec": {"id": "PointMaze_UMaze-v3"}}}, "maze2d-umaze"),
        ({"minari": {"env_spec": '{"id": "AntMaze_Large_Diverse_GR-v4"}'}}, "antmaze-large"),
        ({"minari": {"env_spec": '{"id": "Hopper-v5"}'}}, "hopper"),
        ({"task": "a lab: its own task"}, "hopper"),
        ({"minari": {"env_spec": "{"}}, "hopper"),
        ({}, "hopper"),
    ],
)
def test_a_dataset_of_the_same_world_or_of_an_unknown_one_passes(facts, task):
    task = make_task(task)
    check_matches_task(episodes_of(task, **facts), task)


def test_actions_beyond_what_the_task_takes_are_refused_with_the_numbers():
    task = make_task("hopper")
    episodes = episodes_of(task, source="a.hdf5")
    actions = np.random.default_rng(0).uniform(-7.5, 7.5, episodes.actions.shape)
    wide = replace(episodes, actions=actions.astype(np.float32))
    share = 100 * (np.abs(wide.actions) > 1.002).mean()
    with pytest.raises(
        ValueError, match=r"% of the action values of a\.hdf5 lie outside"
    ) as raised:
        check_actions(wide, task.action_spec)
    assert f"{share:.2g} %" in str(raised.value)
    assert "instead of -1 to 1" in str(raised.value)
    assert "task.check=false" in str(raised.value)


def test_a_few_overshoots_are_told_once_and_rounding_never(caplog):
    task = make_task("hopper")
    episodes = episodes_of(task)
    actions = np.ones_like(episodes.actions)
    check_actions(replace(episodes, actions=actions * np.float32(1.0005)), task.action_spec)
    assert not caplog.messages
    actions[7, 1] = 1.5
    check_actions(replace(episodes, actions=actions), task.action_spec)
    (told,) = caplog.messages
    assert "0.17 % of the action values" in told and "to 1.5 instead of -1 to 1" in told


def episodes_of(of, **facts):
    """Two hundred steps that have the task's shapes."""
    observations = {
        key: np.zeros((200, *shape), np.float32) for key, shape in of.observation_shapes.items()
    }
    actions = np.tile(np.float32(of.action_spec.low), (200, 1))
    return Episodes(observations, actions, np.array([200]), metadata=facts)


def test_a_dataset_of_another_rate_is_refused():
    task = make_task("hopper")
    check_matches_task(episodes_of(task, dt=0.008), task)
    with pytest.raises(ValueError, match="was recorded at 50 Hz, but 'hopper' runs at 125 Hz"):
        check_matches_task(episodes_of(task, fps=50), task)
    check_matches_task(episodes_of(task, fps=50), task, check=False)
