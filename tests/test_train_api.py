"""Training, distilling and evaluating from Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import write_pusht_file

import hotloop.train
from hotloop.policies import load_checkpoint
from hotloop.train import (
    DistillConfig,
    EvalConfig,
    EvalOptions,
    JumpDistillConfig,
    TrainConfig,
    compose_training,
    distill,
    evaluate,
    train,
)

SIZES = (
    "task=pusht",
    "policy.model={horizon: 9, num_levels: 24, ladders: [4x2], network: {width: 16, depth: 1}}",
    "policy.sampling.num_execute=4",
    "steps=2",
    "save_every=2",
    "batch_size=8",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pusht_file(tmp_path_factory.mktemp("data") / "tiny.npz")


def test_a_policy_is_trained_distilled_and_evaluated(data: Path, tmp_path: Path) -> None:
    def config(name: str) -> TrainConfig:
        places = [f"task.dataset={data}", f"output_dir={tmp_path / name}"]
        return compose_training([*SIZES, *places])

    teacher = train(config("teacher"))
    assert load_checkpoint(teacher).provenance["task"] == "pusht"
    student = distill(teacher, config_with(config("student"), num_visits=16, refresh_every=2))
    assert load_checkpoint(student).model.config.jump
    assert load_checkpoint(student).provenance["distill"]["teacher"] == "last"
    one = EvalOptions(n_episodes=1, batch_size=1)
    result = evaluate(student, EvalConfig(sampling={"calls_per_step": 1}, eval=one))
    assert (result.task, result.seeds) == ("pusht", (100_000,))
    with pytest.raises(ValueError, match=r"sampling\.call is no choice"):
        evaluate(student, EvalConfig(sampling={"call": 1}, eval=one))


def config_with(config: TrainConfig, **choices: int) -> TrainConfig:
    from dataclasses import replace

    return replace(config, distill=JumpDistillConfig(**choices))


def test_a_plain_configuration_needs_no_yaml() -> None:
    config = TrainConfig()
    assert (config.policy.kind, type(config.distill)) == ("sdp", DistillConfig)
    assert config.saves_at(5_000) and not config.saves_at(1) and config.saves_at(config.steps)


def test_what_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        hotloop.train.trian  # noqa: B018
