"""Fitting a sampler: it comes closer to its teacher, resumes bit for bit, refuses the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot_folders import golden_folder
from test_feature_distillation import seeing_config, seen_demonstrations
from tiny import SPEC, constant_network, demonstrations, plan_at, tiny_model

from hotloop.decoding import Observation
from hotloop.decoding.fitted import FITTED, ddim_scalars
from hotloop.decoding.samplers import PREDICTIONS, SPACINGS, sampling_levels, spaced_levels
from hotloop.policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hotloop.policies.diffusion.config import DiffusionSampling
from hotloop.policies.diffusion.fitted import fitted_sample
from hotloop.policies.diffusion.model import DiffusionModel
from hotloop.policies.lerobot.given import Given
from hotloop.train.config.distill import SamplerDistillConfig
from hotloop.train.config.policies import DenoisingConfig, DiffusionPolicyConfig
from hotloop.train.config.training import OptimConfig, TrainConfig
from hotloop.train.data.episodes import Episodes
from hotloop.train.distillation.sampler import sampled_pairs
from hotloop.train.families.diffusion import make_windows
from hotloop.train.loop import Trainer
from hotloop.train.objectives.fitted_sampler import SamplerObjective, StepTable, levels_of
from hotloop.train.training import train_on

TEN = DiffusionSampling(4, 10)


def run_of(folder: Path, teacher: Path, steps: int = 4, **choices: Any) -> TrainConfig:
    settings = {"calls_per_step": (2, 4), "num_pairs": 64} | choices
    return TrainConfig(
        DiffusionPolicyConfig(sampling=TEN),
        optim=OptimConfig(lr=0.05, warmup_steps=0),
        distill=SamplerDistillConfig(str(teacher), **settings),
        output_dir=str(folder),
        steps=steps,
        batch_size=32,
        save_every=2,
    )


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "teacher", Checkpoint("dp", tiny_model(ladders=()), SPEC, TEN, {}))
    return tmp_path / "teacher"


@torch.no_grad()
def distance(model: DiffusionModel, num_calls: int, *, fitted: bool) -> float:
    """Root mean square distance of few steps from the teacher's ten, from other noise."""
    windows = make_windows(model.config, demonstrations())
    pairs = sampled_pairs(model, windows, spaced_levels(24, 0, 10), 256, seed=7)
    scalars = model.fitted_scalars(num_calls)
    if not fitted:
        scalars = ddim_scalars(spaced_levels(24, 0, num_calls))
    found = fitted_sample(model, scalars, pairs.noise, model.network.encode(pairs.context))
    return float((found - pairs.landed).square().mean().sqrt())


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_fitted_steps_come_closer_to_the_teacher(prediction: str, tmp_path: Path) -> None:
    model = tiny_model(ladders=(), prediction=prediction)
    save_checkpoint(tmp_path / "teacher", Checkpoint("dp", model, SPEC, TEN, {}))
    config = run_of(tmp_path / "run", tmp_path / "teacher", steps=60, num_pairs=512)
    checkpoint = load_checkpoint(train_on(config, demonstrations(), SPEC))
    for calls, share in ((2, 0.95), (4, 0.8)):
        before, after = (distance(checkpoint.model, calls, fitted=one) for one in (False, True))
        assert after < share * before, f"{calls} calls: {before:.4f} before, {after:.4f} after"


def test_the_teacher_is_in_the_checkpoint_unchanged(teacher: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(
        train_on(run_of(tmp_path / "run", teacher), demonstrations(), SPEC)
    )
    assert checkpoint.sampling == replace(TEN, update=FITTED, calls_per_step=4)
    weights = checkpoint.model.state_dict()
    for name, value in load_checkpoint(teacher).model.state_dict().items():
        assert torch.equal(weights.pop(name), value)
    assert {*weights} == {"solver.2", "solver.4"}
    policy = checkpoint.policy({"update": "ddim", "calls_per_step": 10})
    plans = []
    for one in (policy, load_checkpoint(teacher).policy()):
        one.reset(np.array([5]))
        plans.append(plan_at(one, 0, np.array([0])).actions)
    np.testing.assert_array_equal(*plans)


def test_a_killed_fit_goes_on_bit_for_bit(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_on(run_of(tmp_path / "whole", teacher, steps=6), demonstrations(), SPEC)
    optimise = Trainer._optimise

    def interrupt(trainer: Trainer) -> torch.Tensor:
        if trainer.step == 3:
            raise KeyboardInterrupt
        return optimise(trainer)

    config = run_of(tmp_path / "killed", teacher, steps=6)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_optimise", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_on(config, demonstrations(), SPEC)
    resumed = train_on(replace(config, resume=True), demonstrations(), SPEC)
    one, other = (load_checkpoint(path).model.state_dict() for path in (whole, resumed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_step_of_the_fit_makes_as_many_calls_as_it_fits(teacher: Path) -> None:
    network = constant_network(24)
    model = tiny_model(ladders=(), network=network)
    objective = SamplerObjective(model, (2, 4))
    windows = make_windows(model.config, demonstrations())
    pairs = sampled_pairs(model, windows, spaced_levels(24, 0, 10), 8, seed=0)
    network.calls.clear()
    with torch.no_grad():
        objective(pairs)
    assert len(network.calls) == 2 + 4


@pytest.mark.parametrize("spacing", SPACINGS)
def test_levels_fall_whatever_is_learned(spacing: str) -> None:
    table = StepTable(120, (5,), spacing)
    ddim = ddim_scalars(sampling_levels(120, 5, spacing))
    torch.testing.assert_close(table.scalars(5).detach(), ddim, rtol=0, atol=0)
    change = 8 * torch.randn(5, generator=torch.Generator().manual_seed(0)).double()
    levels = levels_of(table.start.get_buffer("5")[0], change, 120)
    assert 0 < levels[0] <= 120 + 1e-9
    assert (levels.diff() < 0).all()
    assert levels[-1] > 0


def test_a_lerobot_policy_is_a_teacher(tmp_path: Path) -> None:
    """It predicts noise, knows integer levels alone, and spaces its own ones otherwise."""
    folder = golden_folder("dp_state_ddim10", tmp_path)
    given = Given(dt=0.1, action_low=(-1e4, -1e4), action_high=(1e4, 1e4))
    imported = load_checkpoint(folder, given)
    save_checkpoint(tmp_path / "teacher", imported)
    rng, num = np.random.default_rng(0), 40
    observations = {
        key: rng.normal(size=(num, *shape)).astype(np.float32)
        for key, shape in imported.model.observation_shapes.items()
    }
    actions = rng.normal(size=(num, 2)).astype(np.float32)
    episodes = Episodes(observations, actions, np.array([num]))
    config = run_of(tmp_path / "run", tmp_path / "teacher", num_pairs=16)
    config = replace(config, policy=DiffusionPolicyConfig(sampling=imported.sampling))
    checkpoint = load_checkpoint(train_on(config, episodes, imported.action_spec))
    assert checkpoint.model.config.fitted_calls == (2, 4)
    assert checkpoint.sampling.num_execute == imported.sampling.num_execute
    policy = checkpoint.policy()
    policy.reset(np.array([0]))
    frames = {
        key: array[None, : imported.model.config.num_obs_steps]
        for key, array in observations.items()
    }
    step = np.array([1])
    assert np.isfinite(policy.plan(Observation(frames, step, np.array([0])), step).actions).all()


def test_a_teacher_that_sees_is_asked_with_its_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTLOOP_CACHE", str(tmp_path / "cache"))
    seeing = seeing_config(tmp_path / "teacher", 2, save_every=2)
    assert isinstance(seeing.policy, DenoisingConfig)
    policy = DiffusionPolicyConfig(model=replace(seeing.policy.model, ladders=()), sampling=TEN)
    teacher = train_on(replace(seeing, policy=policy), seen_demonstrations(), SPEC)
    path = train_on(run_of(tmp_path / "run", teacher), seen_demonstrations(), SPEC)
    vision = load_checkpoint(path).model.vision
    assert vision is not None
    expected = load_checkpoint(teacher).model.vision.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in vision.state_dict().items())


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"calls_per_step": (2, 10)}, r"calls_per_step \[2, 10\] must be fewer than the 10 steps"),
        ({"calls_per_step": (2, 2)}, r"distill.calls_per_step must be different numbers from 1 to"),
        ({"teacher_steps": 25}, r"distill\.teacher_steps must be at most 24, the noise levels"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    choices: dict[str, Any], message: str, teacher: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        train_on(run_of(tmp_path / "run", teacher, **choices), demonstrations(), SPEC)


def test_fitted_steps_are_no_teacher(teacher: Path, tmp_path: Path) -> None:
    fitted = train_on(run_of(tmp_path / "run", teacher), demonstrations(), SPEC)
    with pytest.raises(ValueError, match="samples in fitted steps already; distil the checkpoint"):
        train_on(run_of(tmp_path / "again", fitted), demonstrations(), SPEC)


def test_the_data_must_be_of_the_teachers_shapes(teacher: Path, tmp_path: Path) -> None:
    """It ended in a traceback, or learned from what its teacher has never seen."""
    given = demonstrations()
    (key, *_), seen = given.observations, given.observations
    wider = replace(given, observations={**seen, key: np.repeat(seen[key], 2, axis=1)})
    without = replace(given, observations={one: seen[one] for one in seen if one != key})
    longer = replace(given, actions=np.repeat(given.actions, 2, axis=1))
    messages = ("observes .* of shape", "the dataset has no such key", "has actions of size 2")
    for episodes, message in zip((wider, without, longer), messages, strict=True):
        with pytest.raises(ValueError, match=message):
            train_on(run_of(tmp_path / "run", teacher), episodes, SPEC)


def test_numbers_of_calls_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="must name at least one number of calls"):
        SamplerDistillConfig("teacher", calls_per_step=())
    with pytest.raises(ValueError, match=r"distill.calls_per_step must be at least 1, got 0"):
        SamplerDistillConfig("teacher", calls_per_step=(0, 2))
