"""Training of vision-language policies, from demonstrations to a student that decodes faster."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch
from tiny_vla import IMAGE, SPEC, STATE_KEY
from tiny_vla_data import CONFIG, demonstrations, windows_of
from torch import nn

from hotloop.decoding.instruction import INSTRUCTION_KEY
from hotloop.decoding.jacobi import ExitRule, jacobi_committed
from hotloop.decoding.token_model import greedy_tokens
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.vla import VlaModel, VlaPolicy
from hotloop.policies.vla.session import block_logits
from hotloop.train.config.training import OptimConfig, TrainConfig
from hotloop.train.data.episodes import Episodes
from hotloop.train.data.windows import EpochSampler, Windows, step_generator
from hotloop.train.families.vla import (
    TrajectorySamples,
    add_lora,
    clipped_share,
    initial_vla,
    prepare_vla,
    without_lora,
)
from hotloop.train.objectives.jacobi_trajectories import (
    CollectionConfig,
    collect,
    read_trajectories,
)
from hotloop.train.objectives.vla import CloningObjective, ConsistencyObjective
from hotloop.train.training import train_on


def fit(objective: Any, samples: Any, steps: int, lr: float = 3e-3) -> list[float]:
    parameters = [p for p in objective.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr)
    sampler, losses = EpochSampler(len(samples), 32, 0), []
    for step in range(steps):
        batch = samples.gather(sampler.indices(step))
        loss = objective(objective.draw(batch, step_generator(0, step, "draw")))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.fixture(scope="module")
def episodes() -> Episodes:
    return demonstrations()


@pytest.fixture(scope="module")
def teacher(episodes: Episodes) -> VlaModel:
    model = initial_vla(CONFIG, episodes, seed=0)
    losses = fit(CloningObjective(model), windows_of(model, episodes), 150)
    assert np.mean(losses[-10:]) < 0.6 * losses[0]
    return model.eval()


@pytest.fixture(scope="module")
def collection(
    teacher: VlaModel, episodes: Episodes, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("collection") / "trajectories"
    return collect(
        folder, teacher, windows_of(teacher, episodes), CollectionConfig(2, shard_size=100)
    )


class Outcome(NamedTuple):
    """How a model decodes a part of the data.

    Attributes:
        exit_error: Mean distance of the actions after one forward from its own greedy actions.
        forwards: Mean forwards until convergence.
        imitation_error: Mean distance of its greedy actions from the demonstrated ones.
    """

    exit_error: float
    forwards: float
    imitation_error: float


def outcome(model: VlaModel, windows: Windows) -> Outcome:
    indices, tokenizer = torch.arange(0, len(windows), 7), model.action_tokenizer
    batch = windows.gather(indices)
    frames = {key: values[:, 0].numpy() for key, values in batch.observation.items()}
    with torch.inference_mode():
        token_model = model.token_model(model.prompt(frames))
        begin, generator = model.begin(len(indices)), torch.Generator().manual_seed(0)
        guess = torch.randint(256, (len(indices), 12), generator=generator)
        greedy = greedy_tokens(token_model, begin, 12).tokens
        early = jacobi_committed(token_model, begin, guess, ExitRule(1)).tokens
        full = jacobi_committed(token_model, begin, guess)
    assert torch.equal(full.tokens, greedy), "distilled or not, Jacobi decoding is greedy decoding"
    demonstrated = tokenizer.encode(batch.actions.numpy()).tokens
    blocks = (early.numpy(), greedy.numpy(), demonstrated)
    first, last, wanted = (tokenizer.normalised(tokens) for tokens in blocks)
    return Outcome(
        float(np.abs(first - last).mean()),
        float(full.num_calls.float().mean()),
        float(np.abs(last - wanted).mean()),
    )


def test_distillation_brings_the_early_exit_close_to_the_end(
    teacher: VlaModel, episodes: Episodes, collection: Path
) -> None:
    windows = windows_of(teacher, episodes)
    student = initial_vla(CONFIG, episodes, seed=0)
    student.load_state_dict(teacher.state_dict())
    samples = TrajectorySamples(student, windows, read_trajectories(collection), 0.5)
    fit(ConsistencyObjective(student.train()), samples, 150, lr=1e-3)
    before, after = outcome(teacher, windows), outcome(student.eval(), windows)
    assert after.exit_error < 0.7 * before.exit_error
    assert after.forwards < 0.75 * before.forwards
    # Mixed labels keep the student near the data; the toy's two ways leave it little to lose.
    assert after.imitation_error < before.imitation_error + 0.04


def run(tmp_path: Path, episodes: Episodes, name: str, steps: int = 2, **policy: Any) -> Path:
    config = TrainConfig(
        policy=replace(CONFIG, **policy), optim=OptimConfig(warmup_steps=1),
        output_dir=str(tmp_path / name), steps=steps, batch_size=8, save_every=steps, log_every=1,
    )  # fmt: skip
    if policy.get("trajectories"):
        config = replace(config, distill=replace(config.distill, teacher=str(tmp_path / "teacher")))
    return train_on(config, episodes, SPEC)


def test_teacher_and_student_are_trained_into_checkpoints(
    tmp_path: Path, episodes: Episodes
) -> None:
    run(tmp_path, episodes, "teacher")
    model = load_checkpoint(tmp_path / "teacher").model
    folder = collect(tmp_path / "t", model, windows_of(model, episodes), CollectionConfig(stride=8))
    last = run(tmp_path, episodes, "student", trajectories=str(folder))
    student = load_checkpoint(last)
    assert student.kind == "vla"
    assert 0 < student.provenance["replaced_share"] < 0.2
    assert student.provenance["clipped_share"] == clipped_share(model, windows_of(model, episodes))
    assert {file.name for file in last.iterdir()} >= {"config.json", "model.safetensors"}
    policy = student.policy({"method": "jacobi", "max_calls": 2})
    assert isinstance(policy, VlaPolicy)
    assert policy.decoding.max_calls == 2
    changed = student.model.state_dict()["host.model.lm_head.weight"]
    assert not torch.equal(changed, model.state_dict()["host.model.lm_head.weight"])


def test_values_beyond_the_quantiles_are_counted(episodes: Episodes) -> None:
    model = initial_vla(CONFIG, episodes, 0)
    scaled = episodes.actions[:, :2]
    low, high = np.quantile(scaled, [0.01, 0.99], axis=0)
    outside = ((scaled < low - 1e-6) | (scaled > high + 1e-6)).sum() / episodes.actions.size
    assert 0 < outside < 0.03
    share = clipped_share(model, windows_of(model, episodes))
    assert share == pytest.approx(outside, abs=1e-3)


def test_a_checkpoint_with_another_vocabulary_block_is_refused(
    tmp_path: Path, episodes: Episodes
) -> None:
    last = run(tmp_path, episodes, "teacher").resolve()
    config = json.loads((last / "config.json").read_text())
    stored = config["model"]["first_action_id"]
    for first_action_id, message in (
        (stored - 5, "the text tokenizer uses ids up to"),
        (stored + 5, "has no room for 256 action tokens"),
    ):
        config["model"]["first_action_id"] = first_action_id
        (last / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=rf"config\.json: .*{message}"):
            load_checkpoint(last)
    config["model"] |= {"first_action_id": stored}
    config["model"]["actions"] = {"low": [0, 0], "high": [1, 1], "scaled": [True, True]}
    (last / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="the action tokenizer has 2 dimensions"):
        load_checkpoint(last)


def test_adapters_train_little_and_vanish_into_the_weights(
    tmp_path: Path, episodes: Episodes
) -> None:
    model = initial_vla(CONFIG, episodes, 0)
    num_weights = sum(p.numel() for p in model.host.model.get_decoder().layers.parameters())
    plain = set(model.state_dict())
    add_lora(model, rank=2, seed=0)
    layers = model.host.model.get_decoder().layers
    assert sum(p.numel() for p in layers.parameters() if p.requires_grad) < 0.3 * num_weights
    assert not any(p.requires_grad for p in model.host.model.model.vision_model.parameters())
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2)
    merged = without_lora(model)
    assert set(merged.state_dict()) == plain
    windows = windows_of(model, episodes)
    batch = windows.gather(torch.arange(2))
    prompt = model.prompt({key: value[:, 0].numpy() for key, value in batch.observation.items()})
    with torch.inference_mode():
        one, other = (block_logits(m.host, prompt, m.begin(2)) for m in (model, merged))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    last = run(tmp_path, episodes, "adapted", lora_rank=2)
    weights = safetensors.torch.load_file(last / "model.safetensors")
    assert set(weights) == plain
    assert load_checkpoint(last).policy().num_execute == 4


def test_a_run_with_adapters_goes_on_as_if_it_had_not_stopped(
    tmp_path: Path, episodes: Episodes
) -> None:
    """A checkpoint holds merged weights: what is trained and its average lie beside them."""
    policy = replace(CONFIG, lora_rank=2)
    config = TrainConfig(
        policy=policy, optim=OptimConfig(warmup_steps=1), output_dir=str(tmp_path / "run"),
        steps=4, batch_size=8, save_every=2, log_every=1,
    )  # fmt: skip
    last = train_on(config, episodes, SPEC)
    files = ("model.safetensors", "training_state/weights.safetensors")
    expected = [safetensors.torch.load_file(last / file) for file in files]
    shutil.rmtree(last.resolve())
    last.unlink()
    last.symlink_to("000002")
    config = replace(config, resume=True)
    train_on(config, episodes, SPEC)
    assert last.resolve().name == "000004"
    for file, weights in zip(files, expected, strict=True):
        resumed = safetensors.torch.load_file(last / file)
        assert resumed.keys() == weights.keys()
        assert all(torch.equal(resumed[key], weights[key]) for key in weights), file
    with pytest.raises(ValueError, match=r"policy\.lora_rank was 2, is 0"):
        train_on(replace(config, policy=CONFIG), episodes, SPEC)


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        (INSTRUCTION_KEY, r"lacks \['observation.instruction'\]"),
        (STATE_KEY, r"lacks \['observation.state'\]"),
        (IMAGE, "lacks pictures"),
    ],
)
def test_data_without_pictures_or_words_is_refused(
    episodes: Episodes, remove: str, message: str
) -> None:
    kept = {key: value for key, value in episodes.observations.items() if key != remove}
    with pytest.raises(ValueError, match=message):
        initial_vla(CONFIG, replace(episodes, observations=kept), 0)


def test_a_teacher_needs_trajectories_and_the_other_way_round(episodes: Episodes) -> None:
    for teacher, trajectories in (("x", ""), ("", "x")):
        with pytest.raises(ValueError, match=r"needs both distill\.teacher and policy\.traj"):
            prepare_vla(replace(CONFIG, trajectories=trajectories), teacher, episodes, 0)
