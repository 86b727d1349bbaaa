"""A run goes on only as the run it was begun as, and no run is begun over what is none."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
from tiny import SPEC, demonstrations

from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.diffusion.config import StreamingSampling
from hotloop.policies.diffusion.model import ModelConfig
from hotloop.policies.networks.config import NetworkConfig
from hotloop.train.config.distill import JumpDistillConfig
from hotloop.train.config.policies import DiffusionPolicyConfig, PolicyConfig
from hotloop.train.config.training import OptimConfig, TrainConfig
from hotloop.train.loop import Trainer
from hotloop.train.resume import content_hash, run_folder, settings_of
from hotloop.train.training import train_on

MODEL = ModelConfig(9, 2, 24, ("4x2",), network=NetworkConfig("mlp", 16, 1))
POLICY = PolicyConfig(model=MODEL, sampling=StreamingSampling(4, 1))


def config(folder: Path, **choices: Any) -> TrainConfig:
    sizes = {"steps": 4, "batch_size": 8, "save_every": 2, "log_every": 2}
    return TrainConfig(**{"policy": POLICY, "output_dir": str(folder), **sizes, **choices})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done")
    train_on(config(folder), demonstrations(), SPEC)
    return folder


@pytest.fixture
def run(done: Path, tmp_path: Path) -> Path:
    shutil.copytree(done, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("choices", "differences"),
    [
        ({"seed": 9}, ["seed was 42, is 9"]),
        ({"batch_size": 16}, ["batch_size was 8, is 16"]),
        ({"precision": "bf16"}, ['precision was "float32", is "bf16"']),
        ({"optim": OptimConfig(lr=0.01)}, ["optim.lr was 0.0005, is 0.01"]),
        ({"policy": DiffusionPolicyConfig(model=MODEL)}, ['policy.kind was "sdp", is "dp"']),
        (
            {"policy": replace(POLICY, model=replace(MODEL, num_levels=48), chunkwise=0.5)},
            ["policy.model.num_levels was 24, is 48", "policy.chunkwise was 0.0, is 0.5"],
        ),
        ({"steps": 3}, ["steps is 3, but 4 are done"]),
        (
            {"seed": 1, "batch_size": 4, "steps": 1},
            ["seed was 42, is 1", "batch_size was 8, is 4", "steps is 1, but 4 are done"],
        ),
    ],
)
def test_other_settings_are_refused_and_each_difference_named(
    run: Path, choices: dict[str, Any], differences: list[str]
) -> None:
    before = contents(run)
    with pytest.raises(ValueError, match="cannot be resumed, it was begun with") as raised:
        train_on(config(run, resume=True, **choices), demonstrations(), SPEC)
    assert all(difference in str(raised.value) for difference in differences)
    assert "\n" not in str(raised.value)
    assert contents(run) == before


def test_other_demonstrations_are_refused_whatever_they_are_called(run: Path) -> None:
    episodes = demonstrations()
    other = replace(episodes, actions=episodes.actions * np.float32(0.5))
    with pytest.raises(ValueError, match="dataset was "):
        train_on(config(run, resume=True), other, SPEC)


def test_a_finished_run_can_be_trained_for_longer_and_sampled_otherwise(run: Path) -> None:
    policy = replace(POLICY, sampling=StreamingSampling(4, 2))
    train_on(config(run, resume=True, steps=6, policy=policy), demonstrations(), SPEC)
    checkpoint = load_checkpoint(run)
    assert (checkpoint.provenance["steps"], checkpoint.sampling.calls_per_step) == (6, 2)


def test_another_teacher_of_the_same_name_is_another_run(done: Path, tmp_path: Path) -> None:
    def student(teacher: Path, **choices: Any) -> TrainConfig:
        how = JumpDistillConfig(str(teacher), num_visits=16, refresh_every=2)
        return config(tmp_path / "student", distill=how, **choices)

    shutil.copytree(done / "checkpoints/000004", tmp_path / "teacher")
    train_on(student(tmp_path / "teacher"), demonstrations(), SPEC)
    train_on(student(done, resume=True), demonstrations(), SPEC)
    shutil.rmtree(tmp_path / "teacher")
    shutil.copytree(done / "checkpoints/000002", tmp_path / "teacher")
    with pytest.raises(ValueError, match=r"distill\.teacher was "):
        train_on(student(tmp_path / "teacher", resume=True), demonstrations(), SPEC)


def test_a_run_that_was_ended_before_its_first_checkpoint_starts_over(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(trainer: Trainer) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_optimise", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_on(config(tmp_path), demonstrations(), SPEC)
    with pytest.raises(FileExistsError, match="already holds a run"):
        train_on(config(tmp_path), demonstrations(), SPEC)
    with pytest.raises(ValueError, match="seed was 42, is 1"):
        train_on(config(tmp_path, resume=True, seed=1), demonstrations(), SPEC)
    train_on(config(tmp_path, resume=True), demonstrations(), SPEC)
    name = "checkpoints/000004/model.safetensors"
    assert (tmp_path / name).read_bytes() == (done / name).read_bytes()


def test_a_run_without_settings_is_compared_with_what_its_checkpoint_tells(run: Path) -> None:
    """Runs of earlier versions wrote none down."""
    (run / "run.json").unlink()
    with pytest.raises(ValueError, match=r"batch_size was 8, is 16"):
        train_on(config(run, resume=True, batch_size=16), demonstrations(), SPEC)
    train_on(config(run, resume=True), demonstrations(), SPEC)


def test_damaged_settings_are_one_sentence(run: Path) -> None:
    (run / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json is damaged .* begin a new one"):
        train_on(config(run, resume=True), demonstrations(), SPEC)


@pytest.mark.parametrize(
    "name",
    [
        "training_state/state.json",
        "training_state/weights.safetensors",
        "training_state/optimizer.safetensors",
        "model.safetensors",
    ],
)
def test_a_damaged_state_is_one_sentence_and_an_earlier_one_goes_on(name: str, run: Path) -> None:
    last = run / "checkpoints" / "last"
    content = (last / name).read_bytes()
    (last / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"last/{name} is damaged .* an earlier checkpoint, or"):
        train_on(config(run, resume=True, steps=6), demonstrations(), SPEC)
    last.unlink()
    last.symlink_to("000002")
    train_on(config(run, resume=True), demonstrations(), SPEC)
    assert (last / name).read_bytes() == content


def test_what_is_no_settings_is_one_sentence(run: Path) -> None:
    for content in (b"\xff\xfe", b'{"settings": [1]}'):
        (run / "run.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"run\.json is damaged .* begin a new one"):
            train_on(config(run, resume=True), demonstrations(), SPEC)


def test_one_process_alone_trains_in_a_folder(run: Path, tmp_path: Path) -> None:
    """Though both looked while there was nothing yet, and one of them prepared for longer."""
    begun, late = config(tmp_path / "new"), config(run)
    with run_folder(begun), pytest.raises(FileExistsError, match="another process is training in"):
        train_on(begun, demonstrations(), SPEC)
    with pytest.raises(FileExistsError, match="already holds a run"), run_folder(late):
        pass


def test_a_file_system_without_locks_is_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_lock: filelock.FileLock) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "_acquire", refuse)
    with run_folder(config(tmp_path / "new")) as folder:
        assert folder == tmp_path / "new"


def test_a_folder_that_is_no_run_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("mine")
    with pytest.raises(FileExistsError, match=r"is no run, and training would overwrite it"):
        train_on(config(tmp_path), demonstrations(), SPEC)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
    with pytest.raises(FileExistsError, match=r"log\.csv is a file; choose another output_dir"):
        train_on(config(tmp_path / "log.csv"), demonstrations(), SPEC)


def test_a_run_does_not_hide_behind_a_checkpoint(done: Path, tmp_path: Path) -> None:
    """A student in its teacher's own folder was there, but who named the folder got the teacher."""
    shutil.copytree(done / "checkpoints/000002", tmp_path / "teacher")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=r"teacher is a checkpoint, .* choose another output"):
        train_on(config(tmp_path / "teacher"), demonstrations(), SPEC)
    assert contents(tmp_path) == before


def test_the_content_of_a_dataset_decides_and_not_where_it_lies() -> None:
    episodes = demonstrations()
    assert content_hash(episodes) == content_hash(demonstrations())
    moved = replace(episodes, metadata={"source": "elsewhere"})
    assert content_hash(moved) == content_hash(episodes)
    (key, *_), ends = episodes.observations, episodes.episode_ends.copy()
    seen = episodes.observations[key].copy()
    seen[3] += 1
    ends[0] += 1
    others = [
        replace(episodes, observations={**episodes.observations, key: seen}),
        replace(episodes, episode_ends=ends),
        replace(episodes, rewards=np.zeros(episodes.num_steps, np.float32)),
    ]
    assert len({content_hash(one) for one in [episodes, *others]}) == 4


def test_a_run_and_its_checkpoints_say_what_they_come_from(done: Path) -> None:
    from importlib.metadata import version

    told = json.loads((done / "run.json").read_text())
    assert told["hotloop"] == load_checkpoint(done).provenance["hotloop"] == version("hotloop")
    assert told["settings"] == settings_of(config(done), demonstrations())
    assert told["settings"]["dataset"] == content_hash(demonstrations())
