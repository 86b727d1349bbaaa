"""A dataset of another environment is refused before anything is trained."""

import re
from dataclasses import replace
from importlib import metadata

import numpy as np
import pytest
from example_episodes import make_episodes

from hotloop.decoding import ActionSpec
from hotloop.envs.task import Task
from hotloop.train.config.training import TaskConfig, TrainConfig
from hotloop.train.data import ReadOptions, write_episodes
from hotloop.train.data.matching import check_matches_task
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
    task = TaskConfig("pusht", str(path), keys, ReadOptions())
    with pytest.raises(ValueError, match=r"observation\.state' has shape \(6,\), the task's \(2,"):
        train(TrainConfig(task=task, output_dir=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()
