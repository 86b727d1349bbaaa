from pathlib import Path

import pytest

from hotloop.envs import make_task
from hotloop.train.config.compose import compose
from hotloop.train.config.training import TrainConfig
from hotloop.train.training import RECORDED

TASKS = Path(__file__).parents[1] / "train" / "configs" / "task"


@pytest.mark.parametrize("name", sorted(path.stem for path in TASKS.glob("*.yaml")))
def test_a_tasks_configuration_is_named_after_it(name):
    config = compose("train", [f"task={name}"], TrainConfig)
    assert config.task.name == name
    if name != RECORDED:
        assert make_task(name).name == name
