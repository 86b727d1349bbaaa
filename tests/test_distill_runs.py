"""Distillation runs: what they achieve, what they cost at inference, and how they resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import SHAPES, SPEC, demonstrations, plan_at
from torch import Tensor

from hotloop.decoding.samplers import reverse
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.diffusion.config import StreamingSampling
from hotloop.policies.diffusion.model import DiffusionModel, ModelConfig
from hotloop.policies.networks.config import NetworkConfig
from hotloop.train.config.distill import JumpDistillConfig
from hotloop.train.config.policies import PolicyConfig
from hotloop.train.config.training import OptimConfig, TrainConfig
from hotloop.train.data.windows import Windows
from hotloop.train.loop import Trainer
from hotloop.train.training import train_on


def train_config(folder: Path, steps: int, **choices: Any) -> TrainConfig:
    model = ModelConfig(9, 2, 24, ("4x2",), network=NetworkConfig("mlp", 32, 1))
    policy = PolicyConfig(model=model, chunkwise=0.7, sampling=StreamingSampling(4, 1))
    defaults: dict[str, Any] = {"batch_size": 64, "log_every": steps, "save_every": steps}
    optim = OptimConfig(lr=2e-3, warmup_steps=20)
    return TrainConfig(
        policy, optim=optim, output_dir=str(folder), steps=steps, **(defaults | choices)
    )


@pytest.fixture(scope="module")
def teacher_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    return train_on(train_config(folder, 300), demonstrations(), SPEC)


def one_call_error(model: DiffusionModel, teacher: DiffusionModel) -> float:
    """Distance of one call from the teacher's twelve, from buffers of noised demonstrations."""
    ladder, generator = teacher.ladders[0], torch.Generator().manual_seed(7)
    batch = Windows(demonstrations(), tuple(SHAPES), 2, 9).gather(torch.arange(180))
    clean, observation = (
        teacher.action_normalizer(batch.actions),
        teacher.flatten(batch.observation),
    )
    level = torch.from_numpy(ladder.levels()).expand(180, -1)
    x = teacher.schedule.add_noise(clean, torch.randn(clean.shape, generator=generator), level)
    jump = torch.full((180,), 12) if model.config.jump else None
    landed = [
        reverse(
            lambda x, k, n=net, j=size: n.predict(x, k, observation, j),
            x,
            ladder.control_step(calls),
            teacher.schedule,
            "sample",
        )
        for net, size, calls in ((teacher, None, 12), (model, jump, 1))
    ]
    return float((landed[0] - landed[1]).square().mean().sqrt())


def test_distillation_brings_one_call_closer_to_the_teacher(
    teacher_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distill = JumpDistillConfig(
        str(teacher_path), (1, 2), 6, 0.1, num_visits=128, refresh_every=100
    )
    config = train_config(tmp_path, 300, distill=distill)
    last = train_on(config, demonstrations(), SPEC)
    teacher, checkpoint = load_checkpoint(teacher_path).model, load_checkpoint(last)
    before, after = (one_call_error(model, teacher) for model in (teacher, checkpoint.model))
    assert after < 0.8 * before, f"{before:.4f} before, {after:.4f} after"
    policy, calls = checkpoint.policy(), [0]
    denoise = checkpoint.model.network.denoise

    def counted(*arguments: Tensor) -> Tensor:
        calls[0] += 1
        return denoise(*arguments)

    monkeypatch.setattr(checkpoint.model.network, "denoise", counted)
    policy.reset(np.arange(2))
    plan_at(policy, 0, np.arange(2))
    assert calls[0] == 2, "the start buffer costs one call per chunk"
    for step in (4, 8, 12):
        plan_at(policy, step, np.arange(2))
    assert calls[0] == 2 + 3, "then every control step costs one"


@pytest.mark.parametrize("refresh_every", [2, 4])
def test_an_interrupted_distillation_goes_on_bit_for_bit(
    teacher_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refresh_every: int
) -> None:
    distill = JumpDistillConfig(str(teacher_path), num_visits=16, refresh_every=refresh_every)
    choices = {"distill": distill, "batch_size": 8, "log_every": 4, "save_every": 4}
    whole = train_config(tmp_path / "whole", 10, **choices)
    train_on(whole, demonstrations(), SPEC)
    interrupted = replace(whole, output_dir=str(tmp_path / "interrupted"))
    with monkeypatch.context() as patch:
        optimise = Trainer._optimise

        def interrupt(trainer: Trainer) -> Tensor:
            if trainer.step == 7:
                raise KeyboardInterrupt
            return optimise(trainer)

        patch.setattr(Trainer, "_optimise", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_on(interrupted, demonstrations(), SPEC)
    train_on(replace(interrupted, resume=True), demonstrations(), SPEC)
    one, other = (load_checkpoint(tmp_path / name).model for name in ("whole", "interrupted"))
    for expected, actual in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(actual, expected)


def test_saving_between_two_refreshes_is_refused(teacher_path: Path, tmp_path: Path) -> None:
    """The visited buffers are not saved: a run resumed between refreshes would lose its own."""
    distill = JumpDistillConfig(str(teacher_path), num_visits=16, refresh_every=3)
    config = train_config(tmp_path, 10, distill=distill, save_every=4)
    with pytest.raises(ValueError, match=r"save_every 4 .* multiple of .*refresh_every 3"):
        train_on(config, demonstrations(), SPEC)
