"""Flow-map and consistency runs: what they achieve, from whom, and how they resume."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot_folders import golden_folder
from test_distill_runs import train_config
from tiny import SHAPES, SPEC, demonstrations, plan_at
from torch import Tensor

from hotloop.decoding.samplers import reverse, spaced_levels
from hotloop.policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hotloop.policies.diffusion.config import DiffusionSampling
from hotloop.policies.diffusion.model import DiffusionModel
from hotloop.policies.lerobot.given import Given
from hotloop.policies.networks.config import EncoderConfig
from hotloop.train.config.distill import (
    ConsistencyConfig,
    DistillConfig,
    FlowMapConfig,
    TrajectoryDistillConfig,
)
from hotloop.train.config.policies import DiffusionPolicyConfig
from hotloop.train.config.training import OptimConfig, TaskConfig, TrainConfig
from hotloop.train.data.episodes import Episodes
from hotloop.train.data.windows import Windows
from hotloop.train.distillation import bank as banks
from hotloop.train.distillation.student import student_of
from hotloop.train.loop import Trainer
from hotloop.train.objectives.flow_map import jump
from hotloop.train.training import train_on


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOTLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "trajectories"


def dp_config(folder: Path, steps: int, **choices: Any) -> TrainConfig:
    config = train_config(folder, steps, **choices)
    model = replace(config.policy.model, ladders=())  # type: ignore[attr-defined]
    sampling = DiffusionSampling(num_execute=4, calls_per_step=1)
    return replace(config, policy=DiffusionPolicyConfig(model=model, sampling=sampling))


@pytest.fixture(scope="module")
def teacher_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    return train_on(dp_config(folder, 300), demonstrations(), SPEC)


def error(model: DiffusionModel, teacher: DiffusionModel, num_calls: int) -> float:
    """Distance of few calls from the teacher's 24, from the same noise."""
    batch = Windows(demonstrations(), tuple(SHAPES), 2, 9).gather(torch.arange(180))
    context = teacher.flatten(batch.observation)
    start = torch.randn(180, 9, 2, generator=torch.Generator().manual_seed(7))
    landed = reverse(
        lambda x, k: teacher.predict(x, k, context),
        start,
        [np.full(9, level) for level in range(24, -1, -1)],
        teacher.schedule,
        teacher.config.prediction,
    )
    x, path = start, spaced_levels(24, 0, num_calls).tolist()
    for begin, end in pairwise(path):
        if model.config.jump:
            x = jump(model, context, x, begin, end)
        else:
            levels = [np.full(9, begin), np.full(9, end)]
            x = reverse(lambda x, k: model.predict(x, k, context), x, levels, model.schedule)
    return float((x - landed).square().mean().sqrt())


@pytest.mark.parametrize(
    "distill",
    [
        FlowMapConfig(num_trajectories=360, solver_steps=24, visited=0.2, refresh_every=100),
        ConsistencyConfig(num_trajectories=360, num_points=8, solver_steps=24),
    ],
)
def test_distillation_brings_few_calls_closer_to_the_teacher(
    distill: TrajectoryDistillConfig,
    teacher_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teacher = load_checkpoint(teacher_path).model
    config = dp_config(tmp_path, 300, distill=replace(distill, teacher=str(teacher_path)))
    checkpoint = load_checkpoint(train_on(config, demonstrations(), SPEC))
    assert checkpoint.provenance["distill"]["method"] == distill.method
    untrained = student_of(teacher, 0)
    for num_calls in (1, 2):
        before, after = (error(one, teacher, num_calls) for one in (untrained, checkpoint.model))
        assert after < 0.8 * before, f"{num_calls}: {before:.4f} before, {after:.4f} after"
    denoise, calls = checkpoint.model.network.denoise, [0]

    def counted(*arguments: Tensor) -> Tensor:
        calls[0] += 1
        return denoise(*arguments)

    monkeypatch.setattr(checkpoint.model.network, "denoise", counted)
    for num_calls in (1, 2, 4):
        policy = checkpoint.policy({"calls_per_step": num_calls})
        policy.reset(np.arange(2))
        calls[0] = 0
        plan_at(policy, 0, np.arange(2))
        assert calls[0] == num_calls


@pytest.mark.parametrize("killed_at", ["bank", "step"])
def test_a_killed_distillation_goes_on_bit_for_bit(
    killed_at: str,
    teacher_path: Path,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the middle of the teacher's trajectories, or between two checkpoints."""
    distill = FlowMapConfig(
        str(teacher_path), num_trajectories=90, visited=0.3, num_visits=16, refresh_every=4
    )
    distill = replace(distill, solver_steps=8)
    choices = {"distill": distill, "batch_size": 8, "log_every": 4, "save_every": 4}
    killed = dp_config(tmp_path / "killed", 10, **choices)
    monkeypatch.setattr(banks, "_NUM_ROWS", 32)
    integrate, count = banks.integrate, [0]

    def interrupt(original: Any, at: int) -> Any:
        def call(*arguments: Any) -> Any:
            count[0] += 1
            if count[0] > at:
                raise KeyboardInterrupt
            return original(*arguments)

        return call

    with monkeypatch.context() as patch:
        if killed_at == "bank":
            patch.setattr(banks, "integrate", interrupt(integrate, 2))
        else:
            patch.setattr(Trainer, "_optimise", interrupt(Trainer._optimise, 7))
        with pytest.raises(KeyboardInterrupt):
            train_on(killed, demonstrations(), SPEC)
    count[0] = 0
    with monkeypatch.context() as patch:
        # Of three blocks one is left to do; of a whole bank, none.
        patch.setattr(banks, "integrate", interrupt(integrate, int(killed_at == "bank")))
        train_on(replace(killed, resume=killed_at == "step"), demonstrations(), SPEC)
    assert not list(cache.glob("*.blocks"))
    monkeypatch.setenv("HOTLOOP_CACHE", str(tmp_path / "another"))
    whole = replace(killed, output_dir=str(tmp_path / "whole"))
    train_on(whole, demonstrations(), SPEC)
    one, other = (load_checkpoint(tmp_path / name).model for name in ("whole", "killed"))
    for expected, actual in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(actual, expected)


def test_a_student_of_pictures_learns_from_features(tmp_path: Path) -> None:
    """Its encoder is its teacher's, and stays as it is."""
    rng, keys = np.random.default_rng(3), ("observation.images.front",)
    episodes = demonstrations(4, 15)
    pictures = {key: rng.integers(0, 256, (60, 20, 20, 3), np.uint8) for key in keys}
    episodes = replace(episodes, observations=pictures)
    config = dp_config(tmp_path / "teacher", 3, batch_size=8)
    encoder = EncoderConfig(crop=(16, 18), num_features=6, num_keypoints=4, width=8)
    policy = config.policy
    assert isinstance(policy, DiffusionPolicyConfig)
    policy = replace(policy, model=replace(policy.model, encoder=encoder))
    teacher = train_on(replace(config, policy=policy), episodes, SPEC)
    distill = FlowMapConfig(str(teacher), num_trajectories=90, solver_steps=8, num_crops=3)
    config = dp_config(tmp_path / "student", 3, batch_size=8, distill=distill)
    before, after = (load_checkpoint(one) for one in (teacher, train_on(config, episodes, SPEC)))
    stored = after.model.state_dict()
    for key, value in before.model.vision.state_dict().items():
        assert torch.equal(stored[f"vision.{key}"], value)
    assert not torch.equal(
        stored["network.head.weight"], before.model.state_dict()["network.head.weight"]
    )


@pytest.mark.parametrize("name", ["dp_state_ddim10", "dp_linear_noclip"])
def test_an_imported_policy_is_a_teacher(name: str, tmp_path: Path) -> None:
    """It predicts noise, embeds timesteps, and may clip nothing; its student does one call."""
    folder = golden_folder(name, tmp_path)
    imported = load_checkpoint(folder, Given(dt=0.1))
    rng, shapes = np.random.default_rng(0), imported.model.observation_shapes
    observations = {
        key: rng.integers(0, 256, (60, *shape), np.uint8)
        if len(shape) == 3
        else rng.standard_normal((60, *shape)).astype(np.float32)
        for key, shape in shapes.items()
    }
    actions = rng.uniform(-1, 1, (60, imported.action_spec.size)).astype(np.float32)
    episodes = Episodes(observations, actions, np.array([30, 60]))
    distill = FlowMapConfig(str(folder), num_trajectories=60, solver_steps=8)
    config = TrainConfig(
        DiffusionPolicyConfig(sampling=DiffusionSampling(imported.sampling.num_execute, 1)),
        optim=OptimConfig(warmup_steps=0),
        distill=distill,
        output_dir=str(tmp_path / "student"),
        steps=2,
        batch_size=4,
    )
    student = load_checkpoint(train_on(config, episodes, imported.action_spec))
    model = student.model
    assert model.config.prediction == "sample" and model.config.jump
    assert model.config.clip == imported.model.config.clip
    assert model.config.network == imported.model.config.network
    policy = student.policy({"calls_per_step": 1})
    assert policy.program.num_calls == 1


def test_a_mistake_is_told_before_any_work_is_done(
    teacher_path: Path, tmp_path: Path, cache: Path
) -> None:
    given = demonstrations()
    goal = given.observations["observation.goal"]
    narrow = replace(given, observations={**given.observations, "observation.goal": goal[:, :2]})
    longer = replace(given, actions=np.concatenate([given.actions] * 2, axis=1))
    only = {"observation.position": given.observations["observation.position"]}
    ours = FlowMapConfig(str(teacher_path), solver_steps=24)
    other = load_checkpoint(teacher_path)
    elsewhere = tmp_path / "elsewhere"
    save_checkpoint(
        elsewhere,
        Checkpoint(other.kind, other.model, other.action_spec, other.sampling, {"task": "pusht"}),
    )
    mistakes: list[tuple[Any, Episodes, str]] = [
        (ours, narrow, r"observes 'observation\.goal' of shape \(3,\), the dataset has \(2,\)"),
        (ours, longer, r"has actions of size 2, the dataset 4; distil on"),
        (ours, replace(given, observations=only), r"'observation\.goal' .* has no such key"),
        (replace(ours, calls_per_step=(25,)), given, r"calls_per_step must be at most 24, the no"),
        (replace(ours, solver_steps=100), given, r"distill\.solver_steps must be at most 24"),
        (replace(ours, visited=0.1, refresh_every=7), given, r"save_every 10 must be a multiple"),
        (FlowMapConfig(str(elsewhere)), given, r"trained for task 'pusht', .* is for 'toy'"),
        (DistillConfig(str(teacher_path), method="segment"), given, r"distils sdp, not dp"),
        (
            DistillConfig(str(teacher_path), method="magic"),
            given,
            r"no distillation method 'magic'",
        ),
    ]
    for index, (distill, episodes, message) in enumerate(mistakes):
        config = dp_config(tmp_path / str(index), 10, distill=distill)
        config = replace(config, task=TaskConfig("toy"))
        with pytest.raises(ValueError, match=message):
            train_on(config, episodes, SPEC)
    assert not cache.exists()
