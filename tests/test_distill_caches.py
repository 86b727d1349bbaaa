"""What a distillation keeps in the cache: damaged, outdated or left over, it does no harm."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from test_flow_map import CONFIG, windows_of
from tiny import tiny_model, write_pusht_file

from hotloop.train.cli import main
from hotloop.train.commands import ExitCode
from hotloop.train.distillation import bank as banks
from hotloop.train.distillation import rollouts
from hotloop.train.distillation.bank import Bank, make_bank
from hotloop.train.distillation.run import compose_distillation
from hotloop.train.training import demonstrations


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOTLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def bank_of_teacher() -> Bank:
    teacher = tiny_model(ladders=())
    return make_bank(teacher, windows_of(teacher), CONFIG, 0.1, seed=0)


def bank_folder(cache: Path) -> Path:
    (folder,) = (one for one in (cache / "trajectories").iterdir() if one.is_dir())
    return folder


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("current", np.zeros(300)),
        ("current", np.array(3)),
        ("current", np.full(300, 10**9)),
        ("crop", np.zeros(300, np.float32)),
        ("vectors", np.zeros((300, 3), np.float32)),
        ("states", np.zeros(300, np.float32)),
    ],
)
def test_trajectories_that_are_none_are_made_anew(
    name: str, array: np.ndarray, cache: Path
) -> None:
    expected = asdict(bank_of_teacher())
    np.save(bank_folder(cache) / f"{name}.npy", array)
    for key, found in asdict(bank_of_teacher()).items():
        assert np.array_equal(found, expected[key])


@pytest.mark.parametrize(
    "content",
    [b"", b"xx", safetensors.numpy.save({"states": np.zeros((3, 2))})],
    ids=["empty", "no safetensors", "other arrays"],
)
def test_a_damaged_block_is_integrated_again(content: bytes, cache: Path) -> None:
    expected = np.array(bank_of_teacher().states)
    folder = bank_folder(cache)
    shutil.rmtree(folder)
    blocks = folder.with_suffix(".blocks")
    blocks.mkdir()
    (blocks / "00000.safetensors").write_bytes(content)
    assert np.array_equal(bank_of_teacher().states, expected)
    assert not blocks.exists()


def test_blocks_of_who_was_killed_after_joining_them_are_removed(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank_of_teacher()
    blocks = bank_folder(cache).with_suffix(".blocks")
    blocks.mkdir()
    monkeypatch.setattr(banks, "integrate", None)
    bank_of_teacher()
    assert not blocks.exists()


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    pytest.importorskip("pymunk")
    train_teacher(tmp_path, seed=1)
    return tmp_path / "teacher"


def train_teacher(folder: Path, seed: int) -> None:
    shutil.rmtree(folder / "teacher", ignore_errors=True)
    data = write_pusht_file(folder / "demos.npz")
    sizes = ("policy.model.network.width=16", "policy.model.network.depth=1", "steps=2")
    run = (f"task.dataset={data}", f"output_dir={folder / 'teacher'}", f"seed={seed}")
    few = ("policy.sampling.calls_per_step=2", "batch_size=8")
    assert main(["train", "policy=dp", *sizes, *run, *few]) == ExitCode.SUCCESS


def actions_of(teacher: Path) -> np.ndarray:
    config = compose_distillation(str(teacher), ["distill.num_rollouts=2"]).config
    return np.array(demonstrations(config)[0].actions)


def kill_in_second_block(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, simulated = rollouts.roll_out, []

    def roll_out(policy: Any, task: Any, seeds: range, *rest: Any) -> Any:
        simulated.append(seeds)
        if len(simulated) == 2:
            raise KeyboardInterrupt
        return original(policy, task, seeds, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(rollouts, "_BLOCK", 1)
        patch.setattr(rollouts, "roll_out", roll_out)
        with pytest.raises(KeyboardInterrupt):
            actions_of(teacher)


def test_a_new_teacher_goes_on_with_no_episode_of_the_one_before(
    teacher: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies where that one lay, and was trained after a killed distillation."""
    monkeypatch.setattr(rollouts, "_BLOCK", 1)
    kill_in_second_block(teacher, monkeypatch)
    train_teacher(teacher.parent, seed=2)
    found = actions_of(teacher)
    assert not list(cache.rglob("*.blocks"))
    monkeypatch.setenv("HOTLOOP_CACHE", str(cache.parent / "another"))
    assert np.array_equal(actions_of(teacher), found)


@pytest.mark.parametrize(
    "content",
    [b"xx", safetensors.numpy.save({"lengths": np.ones(1, np.int64)})],
    ids=["no safetensors", "incomplete"],
)
def test_a_damaged_episode_is_simulated_again(
    content: bytes, teacher: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_in_second_block(teacher, monkeypatch)
    (block,) = cache.rglob("*.blocks/*.safetensors")
    block.write_bytes(content)
    monkeypatch.setattr(rollouts, "_BLOCK", 1)
    found = actions_of(teacher)
    monkeypatch.setenv("HOTLOOP_CACHE", str(cache.parent / "another"))
    assert np.array_equal(actions_of(teacher), found)


def test_episodes_are_kept_until_all_are_in_place(
    teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is killed in writing them down in one piece has simulated them all."""

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rollouts, "Episodes", killed)
        with pytest.raises(KeyboardInterrupt):
            actions_of(teacher)
    monkeypatch.setattr(rollouts, "roll_out", None)
    assert len(actions_of(teacher))
