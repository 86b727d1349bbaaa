"""Distillation on features: what the student learns from is what its encoder would have made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_distill_runs import train_config
from tiny import SPEC, demonstrations
from torch import Tensor

from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.diffusion.model import Batch, DiffusionModel
from hotloop.policies.networks.config import EncoderConfig
from hotloop.policies.networks.vision import Vision
from hotloop.train.config.distill import JumpDistillConfig
from hotloop.train.config.policies import PolicyConfig
from hotloop.train.config.training import TrainConfig
from hotloop.train.data.episodes import Episodes
from hotloop.train.data.features import cached_features
from hotloop.train.families.diffusion import make_windows
from hotloop.train.loop import Trainer
from hotloop.train.objectives.observed import see
from hotloop.train.training import train_on

ENCODER = EncoderConfig(crop=(16, 18), num_features=6, num_keypoints=4, width=8)
CAMERAS = ("observation.images.front", "observation.images.hand")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOTLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def seen_demonstrations(vectors: bool = True) -> Episodes:
    """Motions beside noisy pictures of two cameras."""
    episodes, rng = demonstrations(4, 15), np.random.default_rng(3)
    shape = (episodes.num_steps, 20, 20, 3)
    pictures = {key: rng.integers(0, 256, shape, np.uint8) for key in CAMERAS}
    observations = {**(episodes.observations if vectors else {}), **pictures}
    return replace(episodes, observations=observations)


def seeing_config(folder: Path, steps: int, **choices: Any) -> TrainConfig:
    config = train_config(folder, steps, **({"batch_size": 8} | choices))
    assert isinstance(config.policy, PolicyConfig)
    policy = replace(config.policy, model=replace(config.policy.model, encoder=ENCODER))
    return replace(config, policy=policy)


def distil(folder: Path, teacher: Path, steps: int = 4, **choices: Any) -> Path:
    settings = {name: choices.pop(name) for name in ("num_crops", "train_encoder") & choices.keys()}
    distill = JumpDistillConfig(str(teacher), num_visits=8, refresh_every=2, **settings)
    config = seeing_config(folder, steps, distill=distill, **choices)
    return train_on(config, seen_demonstrations(), SPEC)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    return train_on(seeing_config(folder, 3), seen_demonstrations(), SPEC)


def encoder_of(path: Path) -> dict[str, Tensor]:
    vision = load_checkpoint(path).model.vision
    assert vision is not None
    return vision.state_dict()


def count_encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Frames of each call of an encoder from now on."""
    counts, encode = [], Vision.encode

    def counted(vision: Vision, cropped: Tensor) -> Tensor:
        counts.append(cropped.shape[0] * cropped.shape[1])
        return encode(vision, cropped)

    monkeypatch.setattr(Vision, "encode", counted)
    return counts


def gathered(model: DiffusionModel, episodes: Episodes, num_crops: int) -> tuple[Batch, Batch]:
    """All windows, with the features of crops and with pictures."""
    assert model.vision is not None
    features = cached_features(model.vision, episodes, num_crops)
    steps = torch.arange(episodes.num_steps)
    with_features = make_windows(model.config, episodes, features).gather(steps)
    return with_features, make_windows(model.config, episodes).gather(steps)


@pytest.mark.parametrize("vectors", [True, False])
def test_features_are_what_the_encoder_makes_of_the_middle(teacher: Path, vectors: bool) -> None:
    episodes = seen_demonstrations(vectors)
    trained = load_checkpoint(teacher).model
    shapes = {key: array.shape[1:] for key, array in episodes.observations.items()}
    model = DiffusionModel(trained.config, shapes, 2)
    known, pictures = gathered(model, episodes, num_crops=3)
    assert not set(CAMERAS) & known.observation.keys(), "a batch of features reads no pictures"
    with torch.no_grad():
        context = see(model, known, None).context(model)
        torch.testing.assert_close(context, model.flatten(pictures.observation))


def test_other_crops_are_from_one_place_per_episode(teacher: Path) -> None:
    """All frames of a window are cut alike, as in training from pictures."""
    model, episodes = load_checkpoint(teacher).model, seen_demonstrations()
    assert model.vision is not None
    known, _ = gathered(model, episodes, num_crops=5)
    assert known.features is not None
    places = [(top, left) for top in range(5) for left in range(3)]
    found = {}
    for key, half in zip(CAMERAS, known.features.split(6, dim=-1), strict=True):
        camera = Vision(ENCODER, {key: (20, 20, 3)})
        index = list(model.vision.shapes).index(key)
        camera.encoders[0].load_state_dict(model.vision.encoders[index].state_dict())
        whole = torch.from_numpy(episodes.observations[key])
        with torch.no_grad():
            cuts = torch.stack(
                [
                    camera.encode(whole[:, top : top + 16, left : left + 18].flatten(1)[:, None])
                    for top, left in places
                ]
            )[:, :, 0]  # (places, t, f)
        newest = half[:, -1]  # (t, k, f)
        place = (newest[:, :, None] - cuts.transpose(0, 1)[:, None]).abs().amax(-1).argmin(-1)
        per_episode = place.unflatten(0, (4, 15))  # (episodes, steps, k)
        assert (per_episode == per_episode[:, :1]).all()
        found[key] = per_episode[:, 0]  # (episodes, k)
        middle = places.index((2, 1))
        assert (found[key][:, 0] == middle).all()
        assert len(found[key][:, 1:].unique()) > 4, "places differ by episode and crop"
    assert not torch.equal(*found.values()), "and by camera"


def test_a_sample_sees_one_crop_of_all_its_frames(teacher: Path) -> None:
    model = load_checkpoint(teacher).model
    known, _ = gathered(model, seen_demonstrations(), num_crops=3)
    assert known.features is not None
    first, again, other = (
        see(model, known, torch.Generator().manual_seed(seed)).context(model) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    seen = first.unflatten(1, (2, -1))[:, :, -12:]  # (b, to, f)
    matches = (known.features == seen[:, :, None]).all(dim=(1, 3))  # (b, k)
    assert (matches.sum(dim=1) == 1).all()
    assert matches.any(dim=0).all(), "every crop is seen"


def test_the_student_keeps_its_teachers_encoder_and_no_picture_is_encoded_twice(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    counts = count_encoded(monkeypatch)
    student = distil(tmp_path / "one", teacher, num_crops=3)
    assert sum(counts) == 4 * 15 * 3
    kept = encoder_of(student)
    for key, value in encoder_of(teacher).items():
        assert torch.equal(kept[key], value)
    one, other = (load_checkpoint(path).model.network for path in (teacher, student))
    learnt = other.state_dict()
    assert any(not value.equal(learnt[key]) for key, value in one.state_dict().items())
    counts.clear()
    distil(tmp_path / "other", teacher, num_crops=3, seed=7)
    assert counts == []
    assert len(list(cache.glob("*.npy"))) == 1


def test_training_the_encoder_changes_it(teacher: Path, tmp_path: Path, cache: Path) -> None:
    trained = encoder_of(distil(tmp_path / "run", teacher, train_encoder=True))
    before = encoder_of(teacher)
    same = [key for key, value in trained.items() if torch.equal(value, before[key])]
    assert same == []
    assert not cache.exists()


def test_an_interrupted_run_goes_on_bit_for_bit(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = {"log_every": 2, "save_every": 2}
    whole = distil(tmp_path / "whole", teacher, 6, **choices)
    optimise = Trainer._optimise

    def interrupt(trainer: Trainer) -> Tensor:
        if trainer.step == 5:
            raise KeyboardInterrupt
        return optimise(trainer)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_optimise", interrupt)
        distil(tmp_path / "interrupted", teacher, 6, **choices)
    resumed = distil(tmp_path / "interrupted", teacher, 6, resume=True, **choices)
    one, other = (load_checkpoint(path).model.state_dict() for path in (whole, resumed))
    assert all(torch.equal(one[key], other[key]) for key in one)


def changed_weights(vision: Vision, episodes: Episodes) -> tuple[Vision, Episodes, int]:
    vision.encoders[1].requires_grad_(False)
    next(vision.encoders[1].parameters()).mul_(1.01)
    return vision, episodes, 2


def changed_pictures(vision: Vision, episodes: Episodes) -> tuple[Vision, Episodes, int]:
    episodes.observations[CAMERAS[0]][7, 3, 3, 0] ^= 1
    return vision, episodes, 2


def other_borders(vision: Vision, episodes: Episodes) -> tuple[Vision, Episodes, int]:
    ends, terminated = np.array([15, 30, 60]), np.zeros(3, bool)
    return vision, replace(episodes, episode_ends=ends, terminated=terminated), 2


@pytest.mark.parametrize(
    "change",
    [changed_weights, changed_pictures, other_borders, lambda *given: (*given, 3)],
    ids=["weights", "pictures", "episodes", "crops"],
)
def test_what_features_depend_on_makes_new_ones(
    teacher: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[..., Any]
) -> None:
    model, episodes = load_checkpoint(teacher).model, seen_demonstrations()
    assert model.vision is not None
    cached_features(model.vision, episodes, 2)
    counts = count_encoded(monkeypatch)
    actions = replace(episodes, actions=episodes.actions + 1)
    cached_features(model.vision, actions, 2)
    assert counts == [], "actions are nothing that an encoder sees"
    cached_features(*change(model.vision, episodes))
    assert counts and len(list(cache.glob("*.npy"))) == 2


@pytest.mark.parametrize("num_bytes", [0, -4])
def test_a_damaged_file_is_made_anew(teacher: Path, cache: Path, num_bytes: int) -> None:
    model, episodes = load_checkpoint(teacher).model, seen_demonstrations()
    assert model.vision is not None
    expected = np.array(cached_features(model.vision, episodes, 2))
    file = next(cache.glob("*.npy"))
    file.write_bytes(file.read_bytes()[:num_bytes])
    assert np.array_equal(cached_features(model.vision, episodes, 2), expected)


def test_a_pass_that_is_ended_leaves_nothing_behind(
    teacher: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, episodes = load_checkpoint(teacher).model, seen_demonstrations()
    assert model.vision is not None
    calls, encode = [], Vision.encode

    def ended(vision: Vision, cropped: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return encode(vision, cropped)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Vision, "encode", ended)
        cached_features(model.vision, episodes, 2)
    assert [path.suffix for path in cache.iterdir()] in ([], [".lock"])
    assert len(cached_features(model.vision, episodes, 2)) == episodes.num_steps


def test_pictures_that_do_not_fit_the_teacher_are_named(teacher: Path) -> None:
    model, episodes = load_checkpoint(teacher).model, seen_demonstrations()
    assert model.vision is not None
    front, hand = (episodes.observations[key] for key in CAMERAS)
    for observations, message in (
        ({CAMERAS[0]: front}, r"images\.hand': .*shape \(20, 20, 3\).* have no such key"),
        ({CAMERAS[0]: front[:, :8], CAMERAS[1]: hand}, r"images\.front': .* have \(8, 20, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            cached_features(model.vision, replace(episodes, observations=observations), 2)


def test_an_encoder_is_not_trained_on_pictures_of_another_size(
    teacher: Path, tmp_path: Path
) -> None:
    episodes = seen_demonstrations()
    other = {**episodes.observations, CAMERAS[0]: episodes.observations[CAMERAS[0]][:, :19]}
    distill = JumpDistillConfig(str(teacher), num_visits=8, refresh_every=2, train_encoder=True)
    config = seeing_config(tmp_path, 4, distill=distill)
    with pytest.raises(ValueError, match=r"images\.front' of .* has \(19, 20, 3\)"):
        train_on(config, replace(episodes, observations=other), SPEC)
