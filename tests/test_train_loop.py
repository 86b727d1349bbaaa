"""The training loop: resumed bit for bit, the same on two processes, and careful with files."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tiny import write_pusht_file

from hotloop.policies.checkpoint import load_checkpoint
from hotloop.train.average import WeightAverage
from hotloop.train.config.compose import compose
from hotloop.train.config.training import OptimConfig, TrainConfig
from hotloop.train.loop import Trainer, learning_rate
from hotloop.train.training import train

SETTINGS = (
    "task=pusht",
    "policy=sdp",
    "policy.model={horizon: 9, num_levels: 24, ladders: [4x2], network: {width: 16, depth: 1}}",
    "policy.sampling.num_execute=4",
    "optim.warmup_steps=3",
    "steps=11",
    "batch_size=8",
    "log_every=3",
    "save_every=4",
)
# Trains in forked copies of one process, each of which kills itself at another moment.
KILLED_RUNS = """
import os, pathlib, signal, sys
from hotloop.train import compose_training, loop, train

def kill_at(owner, name, number):
    original, count = getattr(owner, name), [0]
    def call(*args, **kwargs):
        count[0] += 1
        if count[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    setattr(owner, name, call)

POINTS = {
    "in-a-step": (loop.Trainer, "_optimise", 7),
    "while-saving": (loop, "save_state", 2),
    "before-the-link-moves": (pathlib.Path, "replace", 6),
}
for point, arguments in POINTS.items():
    child = os.fork()
    if child == 0:
        kill_at(*arguments)
        overrides = [*sys.argv[2:], f"output_dir={sys.argv[1]}/{point}"]
        train(compose_training(overrides))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, point
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_pusht_file(tmp_path_factory.mktemp("data") / "tiny.npz")
    return f"task.dataset={path}"


def run(data: str, folder: Path, *changes: str) -> Path:
    overrides = [*SETTINGS, data, f"output_dir={folder}", *changes]
    return train(compose("train", overrides, TrainConfig))


@pytest.fixture(scope="module")
def whole_run(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run(data, folder)
    return folder


def log_of(folder: Path) -> list[tuple[str, ...]]:
    with (folder / "log.csv").open(newline="") as file:
        return [(row["step"], row["loss"], row["lr"]) for row in csv.DictReader(file)]


def assert_same_run(one: Path, other: Path) -> None:
    assert log_of(one) == log_of(other)
    last = Path("checkpoints") / "last"
    for name in ("weights", "optimizer"):
        file = last / "training_state" / f"{name}.safetensors"
        tensors, expected = load_file(one / file), load_file(other / file)
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[key], expected[key]) for key in tensors)
    averaged = [load_file(run / last / "model.safetensors") for run in (one, other)]
    assert all(torch.equal(averaged[0][key], averaged[1][key]) for key in averaged[0])


@pytest.fixture(scope="module")
def killed_runs(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", KILLED_RUNS, str(folder), *SETTINGS, data]
    subprocess.run(command, check=True, timeout=280, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return folder


@pytest.mark.parametrize("point", ["in-a-step", "while-saving", "before-the-link-moves"])
def test_a_run_killed_by_sigkill_goes_on_as_if_nothing_had_happened(
    data: str, killed_runs: Path, whole_run: Path, point: str
) -> None:
    """The same losses and, bit for bit, the same weights, average and moments at the end."""
    folder = killed_runs / point
    saved = json.loads((folder / "checkpoints/last/training_state/state.json").read_text())
    assert saved["step"] == 4
    load_checkpoint(folder)
    run(data, folder, "resume=true")
    assert_same_run(folder, whole_run)


def test_resuming_a_finished_run_changes_nothing(
    data: str, whole_run: Path, tmp_path: Path
) -> None:
    run(data, tmp_path)
    run(data, tmp_path, "resume=true")
    assert_same_run(tmp_path, whole_run)


def test_losses_are_logged_as_means_since_the_line_before(
    data: str, whole_run: Path, tmp_path: Path
) -> None:
    run(data, tmp_path, "log_every=1")
    each = [float(loss) for _, loss, _ in log_of(tmp_path)]
    lines = {int(step): float(loss) for step, loss, _ in log_of(whole_run)}
    assert {3, 6, 9, 11} <= set(lines)
    for begin, end in pairwise([0, *lines]):
        assert lines[end] == pytest.approx(np.mean(each[begin:end]), rel=1e-5)


def test_b9_the_last_checkpoint_is_that_of_the_last_step(whole_run: Path) -> None:
    """Bug B9: the official runs keep the best checkpoint by test score and none of the last step.

    Its "average of the ten lowest losses" includes the untrained network when there are only ten.
    Here every saved step stays, the last one whether or not `save_every` divides it.
    """
    saved = sorted(path.name for path in (whole_run / "checkpoints").iterdir())
    assert saved == ["000004", "000008", "000011", "last"]
    assert (whole_run / "checkpoints" / "last").resolve().name == "000011"
    provenance = load_checkpoint(whole_run).provenance
    assert (provenance["steps"], provenance["seed"], provenance["num_episodes"]) == (11, 42, 3)


def test_the_seed_decides_the_run(data: str, whole_run: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "same")
    run(data, tmp_path / "other", "seed=43")
    assert_same_run(tmp_path / "same", whole_run)
    assert log_of(tmp_path / "other") != log_of(whole_run)


def test_a_run_is_never_overwritten(data: str, whole_run: Path) -> None:
    before = {path: path.read_bytes() for path in whole_run.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match="already holds a run; continue it with resume=true"):
        run(data, whole_run)
    assert {path: path.read_bytes() for path in whole_run.rglob("*") if path.is_file()} == before


def test_there_must_be_something_to_resume(data: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no training state, so it cannot be resumed"):
        run(data, tmp_path, "resume=true")


def test_demonstrations_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"task\.dataset is not set.*task\.dataset=PATH"):
        run("seed=1", tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(data: str, tmp_path: Path) -> None:
    message = r"loss is (nan|inf) at step \d+; the last checkpoint is kept.*optim\.lr"
    with pytest.raises(FloatingPointError, match=message):
        run(data, tmp_path, "optim.lr=1e30", "save_every=1")
    weights = load_checkpoint(tmp_path).model.state_dict()
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_the_batch_must_be_shared_evenly(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Accelerator, "num_processes", property(lambda self: 3))
    with pytest.raises(ValueError, match="batch_size 8 must be a multiple of the 3 processes"):
        run(data, tmp_path)


def test_a_missing_tensorboard_is_answered_by_the_command_that_installs_it(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(ImportError, match=r"pip install 'hotloop\[log\]'"):
        run(data, tmp_path)


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    config = OptimConfig(lr=2.0, warmup_steps=4)
    rates = [learning_rate(config, step, 12) for step in range(13)]
    np.testing.assert_allclose(rates[:4], [0.5, 1, 1.5, 2])
    expected = [1 + math.cos(math.pi * i / 8) for i in range(9)]
    np.testing.assert_allclose(rates[4:], expected, atol=1e-12)
    assert learning_rate(OptimConfig(lr=2.0, warmup_steps=0), 0, 12) == 2
    assert learning_rate(OptimConfig(warmup_steps=20), 11, 12) > 0, "a run shorter than warm-up"


def test_the_average_follows_its_formula() -> None:
    """Decay 1 - (1 + t)^-p after t updates, at most the largest; the first one is a copy."""
    config = OptimConfig(ema_power=0.75, ema_max=0.6)
    model = torch.nn.Linear(2, 1, bias=False)
    average = WeightAverage(model, config)
    expected = np.zeros((1, 2))
    for update in range(6):
        values = np.random.default_rng(update).standard_normal((1, 2))
        model.weight.data.copy_(torch.from_numpy(values))
        average.update()
        decay = min(1 - (1 + update) ** -0.75, 0.6)
        expected = decay * expected + (1 - decay) * values
        np.testing.assert_allclose(average.module.weight.detach(), expected, rtol=1e-5)


def test_the_average_and_not_the_raw_weights_is_what_a_checkpoint_holds(whole_run: Path) -> None:
    last = whole_run / "checkpoints" / "last"
    averaged, raw = (
        load_file(last / name)
        for name in ("model.safetensors", "training_state/weights.safetensors")
    )
    assert averaged.keys() == raw.keys()
    key = "network.head.weight"
    assert not torch.isclose(averaged[key], raw[key]).all()


def test_every_sample_is_drawn_before_processes_share_them(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainers: list[Trainer] = []
    monkeypatch.setattr(Trainer, "run", lambda self, settings: trainers.append(self) or tmp_path)
    run(data, tmp_path)
    whole = trainers[0].gradient_inputs(5)
    for index in range(2):
        fake = SimpleNamespace(num_processes=2, process_index=index, device=torch.device("cpu"))
        monkeypatch.setattr(trainers[0], "accelerator", fake)
        share = trainers[0].gradient_inputs(5)
        expected = whole.select(slice(4 * index, 4 * index + 4))
        assert torch.equal(share.seen.vectors, expected.seen.vectors)
        for key in ("clean", "level", "noise"):
            assert torch.equal(getattr(share, key), getattr(expected, key))
