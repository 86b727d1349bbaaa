"""Jacobi trajectories of a teacher: what is kept, and how a collection is resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_vla import SPEC, tiny_model
from tiny_vla_data import CONFIG, demonstrations, windows_of

from hotloop.decoding.token_model import greedy_tokens
from hotloop.policies.checkpoint import Checkpoint, save_checkpoint
from hotloop.policies.vla import TokenDecodingConfig, VlaModel
from hotloop.train.cli import main
from hotloop.train.data.episodes import Episodes
from hotloop.train.data.write import write_episodes
from hotloop.train.families.vla import initial_vla
from hotloop.train.objectives.jacobi_trajectories import (
    CollectionConfig,
    collect,
    read_trajectories,
)
from hotloop.train.objectives.trajectory_samples import TrajectorySamples


@pytest.fixture(scope="module")
def episodes() -> Episodes:
    return demonstrations()


@pytest.fixture(scope="module")
def teacher(episodes: Episodes) -> VlaModel:
    """Not trained, but with weights large enough that a token depends on those before it."""
    model = initial_vla(CONFIG, episodes, seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and "vision" not in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def collection(
    teacher: VlaModel, episodes: Episodes, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("collection") / "trajectories"
    config = CollectionConfig(2, shard_size=100)
    return collect(folder, teacher, windows_of(teacher, episodes), config)


def test_trajectories_end_in_the_greedy_tokens_and_hold_no_state_twice(
    teacher: VlaModel, episodes: Episodes, collection: Path
) -> None:
    found, windows = read_trajectories(collection), windows_of(teacher, episodes)
    assert found.index.tolist() == list(range(len(windows)))
    batch = windows.gather(found.index[::17])
    frames = {key: values[:, 0].numpy() for key, values in batch.observation.items()}
    with torch.inference_mode():
        token_model = teacher.token_model(teacher.prompt(frames))
        greedy = greedy_tokens(token_model, teacher.begin(len(found.index[::17])), 12).tokens
    assert torch.equal(found.fixed[::17].long(), greedy)
    labels = teacher.action_tokenizer.encode(batch.actions.numpy()).tokens
    assert torch.equal(found.labels[::17].long(), torch.from_numpy(labels))
    for row in range(0, len(windows), 29):
        iterates = found.iterates_of(row)
        assert len(iterates) > 2
        assert len(torch.unique(iterates, dim=0)) == len(iterates)
        assert (iterates != found.fixed[row]).any(dim=1).all()
        begun = found.guesses[row].long()
        assert len(begun) == 3, "two random ones and the previous chunk"
        assert all((iterates == guess).all(dim=1).any() for guess in begun)


def test_a_collection_goes_on_where_it_stopped(
    teacher: VlaModel, episodes: Episodes, collection: Path, tmp_path: Path
) -> None:
    """A shard that is there is not touched; the missing one comes out as in one go."""
    names = sorted(path.name for path in collection.glob("*.safetensors"))
    assert len(names) == 3
    for name in ("collection.json", names[0], names[2]):
        (tmp_path / name).write_bytes((collection / name).read_bytes())
    (tmp_path / names[0]).touch()
    before = (tmp_path / names[0]).stat().st_mtime_ns
    windows, config = windows_of(teacher, episodes), CollectionConfig(2, shard_size=100)
    done: list[int] = []
    collect(tmp_path, teacher, windows, config, done.append)
    assert done == [100, 100, 88]
    assert (tmp_path / names[0]).stat().st_mtime_ns == before
    assert (tmp_path / names[1]).read_bytes() == (collection / names[1]).read_bytes()


def test_another_teacher_or_configuration_may_not_add_to_a_collection(
    teacher: VlaModel, episodes: Episodes, collection: Path
) -> None:
    windows = windows_of(teacher, episodes)
    with pytest.raises(ValueError, match="trajectories of another collection: seed differ"):
        collect(collection, teacher, windows, CollectionConfig(2, shard_size=100, seed=1))
    other = initial_vla(CONFIG, episodes, seed=1).eval()
    with pytest.raises(ValueError, match="another collection: teacher differ"):
        collect(collection, other, windows, CollectionConfig(2, shard_size=100))


def test_trajectories_of_an_earlier_format_are_refused(collection: Path, tmp_path: Path) -> None:
    for path in collection.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = tmp_path / "collection.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 2', '"format_version": 1'))
    with pytest.raises(ValueError, match="trajectories of format 1, and 2 is read; collect them"):
        read_trajectories(tmp_path)


def test_trajectories_that_do_not_converge_are_dropped(
    teacher: VlaModel, episodes: Episodes, tmp_path: Path
) -> None:
    config = CollectionConfig(1, previous=False, max_calls=11, stride=4)
    folder = collect(tmp_path, teacher, windows_of(teacher, episodes), config)
    found = read_trajectories(folder)
    everything = collect(
        tmp_path / "all", teacher, windows_of(teacher, episodes), replace(config, max_calls=0)
    )
    complete = read_trajectories(everything)
    assert 0 < len(found.index) < len(complete.index)
    kept = torch.isin(complete.index, found.index)
    assert torch.equal(found.fixed, complete.fixed[kept])


def test_labels_come_from_the_demonstration_where_the_teacher_is_far_off(
    teacher: VlaModel, episodes: Episodes, collection: Path
) -> None:
    windows, found = windows_of(teacher, episodes), read_trajectories(collection)
    mixed = TrajectorySamples(teacher, windows, found, 0.9)
    assert mixed.replaced_share == pytest.approx(0.1, abs=0.01)
    batch = mixed.gather(torch.arange(len(mixed)))
    from_demonstration = (batch.labels == found.labels.long()).all(dim=1)
    from_teacher = (batch.labels == found.fixed.long()).all(dim=1)
    assert (from_demonstration | from_teacher).all()
    assert TrajectorySamples(teacher, windows, found, 1.0).replaced_share == 0


def test_trajectories_of_another_model_or_dataset_are_refused(
    teacher: VlaModel, episodes: Episodes, collection: Path
) -> None:
    found = read_trajectories(collection)
    shorter = tiny_model(num_actions=2)
    with pytest.raises(ValueError, match="blocks of 12 tokens, the model's have 6"):
        TrajectorySamples(shorter, windows_of(shorter, episodes), found, 1.0)
    few = windows_of(teacher, demonstrations(num_episodes=2))
    with pytest.raises(ValueError, match="reach to sample 287, the dataset has 24"):
        TrajectorySamples(teacher, few, found, 1.0)


def test_a_folder_without_trajectories_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no Jacobi trajectories; collect them first"):
        read_trajectories(tmp_path)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"num_random": 0, "previous": False}, "random guesses, the previous chunk, or both"),
        ({"stride": 0}, "must be at least 1"),
        ({"max_calls": -1}, "max_calls must be 0 or more, got -1"),
    ],
)
def test_collections_of_nothing_are_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CollectionConfig(**choices)


def test_the_command_collects_from_a_checkpoint_and_a_file(
    teacher: VlaModel,
    episodes: Episodes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = Checkpoint("vla", teacher, SPEC, TokenDecodingConfig(4), {"task": "toy"})
    save_checkpoint(tmp_path / "teacher", checkpoint)
    data = write_episodes(tmp_path / "data.hdf5", episodes, "robomimic")
    words = ["jacobi", str(tmp_path / "teacher"), str(data), str(tmp_path / "out"), "stride=48"]
    assert main(words) == 0
    assert "6 prompts of 288 steps" in capsys.readouterr().out
    assert read_trajectories(tmp_path / "out").index.tolist() == list(range(0, 288, 48))
    assert main(words[:-1]) == 2
    assert "trajectories of another collection: stride differ" in capsys.readouterr().err


def test_only_a_token_policy_can_be_a_teacher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jacobi", "pusht-sdp", "data.hdf5", str(tmp_path / "out")]) == 2
    assert "pusht-sdp is no vision-language policy" in capsys.readouterr().err
