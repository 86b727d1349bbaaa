"""Every task can be trained for by its name, whether or not it has a file of its own."""

from pathlib import Path

import pytest

from hotloop.envs import TASKS, make_task
from hotloop.train.config.compose import choices, compose
from hotloop.train.config.training import TrainConfig
from hotloop.train.training import RECORDED

FILES = Path(__file__).parents[1] / "train" / "config" / "yaml" / "task"


@pytest.mark.parametrize("name", choices("task"))
def test_a_tasks_configuration_is_named_after_it(name):
    config = compose("train", [f"task={name}"], TrainConfig)
    assert config.task.name == name
    if name != RECORDED:
        assert make_task(name).name == name


def test_every_task_is_a_choice_and_only_those_with_more_to_say_have_a_file():
    assert set(choices("task")) == {*TASKS.names, RECORDED}
    with_files = {path.stem for path in FILES.glob("*.yaml")}
    assert with_files < set(choices("task"))
    for name in with_files - {RECORDED}:
        assert compose("train", [f"task={name}"], TrainConfig).task.keys, f"{name} says only a name"


@pytest.mark.parametrize(
    "name",
    [name for name in choices("task") if name.startswith(("pusht", "lift", "can", "square"))],
)
def test_a_tasks_keys_are_all_that_it_observes(name):
    keys = compose("train", [f"task={name}"], TrainConfig).task.keys
    assert {*keys} == {*make_task(name).observation_shapes, "action"}
