"""`hotloop train -m`: many runs from one command line, here and by submitit."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import write_pusht_file

from hotloop.train import sweep as sweep_module
from hotloop.train import train, training
from hotloop.train.cli import main
from hotloop.train.config.sweep import expand
from hotloop.train.config.training import TrainConfig
from hotloop.train.resume import last_checkpoint
from hotloop.train.state import steps_done

SETTINGS = (
    "task=pusht",
    "policy.model.horizon=9",
    "policy.model.num_levels=24",
    "policy.model.network.width=16",
    "policy.model.network.depth=1",
    "optim.warmup_steps=1",
    "steps=2",
    "batch_size=8",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_pusht_file(tmp_path_factory.mktemp("data") / "tiny.npz")
    return f"task.dataset={path}"


def steps_of(folder: Path) -> int:
    last = last_checkpoint(folder)
    return 0 if last is None else steps_done(last)


def test_every_combination_is_a_run_in_a_folder_of_its_own() -> None:
    sweep = expand(["seed=1,2", "steps=3", "policy=dp,sdp", "output_dir=out/here"])
    assert [job.name for job in sweep.jobs] == [
        "seed-1_policy-dp", "seed-1_policy-sdp", "seed-2_policy-dp", "seed-2_policy-sdp"
    ]  # fmt: skip
    job = sweep.jobs[2]
    assert job.overrides == ("seed=2", "steps=3", "policy=dp")
    assert (job.output_dir, sweep.folder) == ("out/here/seed-2_policy-dp", "out/here")
    config = job.config()
    assert (config.seed, config.steps, config.policy.kind) == (2, 3, "dp")
    assert config.output_dir == job.output_dir


def test_values_are_written_as_hydra_has_them(tmp_path: Path) -> None:
    """Ranges, lists that are one value, files of one's own, and keys that end alike."""
    names = [job.name for job in expand(["seed=range(1,4)"]).jobs]
    assert names == ["seed-1", "seed-2", "seed-3"]
    (job,) = expand(["policy.model.ladders=[4x2,2x4]"]).jobs
    assert job.overrides == ("policy.model.ladders=[4x2,2x4]",)
    files = [job.name for job in expand(["policy=labs/a.yaml,dp", "task=pusht"]).jobs]
    assert files == ["policy-a", "policy-dp"]
    alike = [job.name for job in expand(["optim.lr=1e-3,1e-4", "other.lr=1,2"]).jobs]
    assert alike[0] == "optim.lr-0.001_other.lr-1"
    assert [job.overrides for job in expand(["seed=1,2", "seed=3"]).jobs] == [("seed=3",)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("output_dir=a,b", "output_dir is the folder of the whole sweep"),
        ("hydra/sweeper=optuna", "'hydra/sweeper=optuna' has no effect here"),
        ("hydra.sweep.dir=x", "'hydra.sweep.dir=x' has no effect here"),
        ("optim.lr=interval(0,1)", "expected values to choose from"),
        ("policy='a b','a-b'", "two runs of the sweep would share the folder .*policy-a-b"),
    ],
)
def test_what_a_sweep_cannot_do_is_said(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expand([override])


def test_runs_one_after_another(data: str, tmp_path: Path, capsys) -> None:
    """One of four cannot be trained; the others are, and the report says which and why."""
    choices = ["seed=1,2", "policy=dp,sdp", "policy.model.network.kind=mlp"]
    arguments = ["train", "-m", *SETTINGS, data, *choices, f"output_dir={tmp_path}"]
    assert main(arguments) == 1
    out = capsys.readouterr().out
    assert "4 runs in" in out
    assert out.count("2 of 2 steps, finished") == 2
    assert out.count("0 of 2 steps, 15 chunks of 1 actions do not fit") == 2
    assert steps_of(tmp_path / "seed-2_policy-dp") == 2
    assert main([*arguments, "resume=true"]) == 1, "what is finished stays, what failed fails again"
    assert main(arguments) == 2
    assert "already holds a run; continue it with resume=true" in capsys.readouterr().err


def test_a_run_without_enough_memory_costs_the_others_nothing(
    data: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    def greedy(config: TrainConfig) -> Path:
        if config.seed == 1:
            raise torch.OutOfMemoryError("out of memory\nhow much there was")
        return train(config)

    monkeypatch.setattr(training, "train", greedy)
    output = tmp_path / "out"
    assert (
        main(["train", "-m", *SETTINGS, data, "policy=dp", "seed=1,2", f"output_dir={output}"]) == 1
    )
    printed = capsys.readouterr()
    assert "OutOfMemoryError: out of memory\n" in printed.out
    assert "how much there was" in printed.err
    assert (steps_of(output / "seed-1"), steps_of(output / "seed-2")) == (0, 2)


def test_nothing_begins_before_every_configuration_is_right(data: str, tmp_path: Path, capsys):
    output = tmp_path / "out"
    assert main(["train", "-m", *SETTINGS, data, "seed=1,-2", f"output_dir={output}"]) == 2
    assert "seed must be at least 0" in capsys.readouterr().err
    assert not output.exists()


def test_submitits_local_executor_trains_each_run_in_a_process(data: str, tmp_path: Path) -> None:
    """Side by side, with their output beside them."""
    pytest.importorskip("submitit")
    folder = tmp_path / "runs"
    launcher = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"]
    arguments = ["train", "-m", *SETTINGS, data, "policy=dp", "seed=1,2", *launcher]
    sweep = subprocess.run(
        [sys.executable, "-m", "hotloop.train.cli", *arguments, f"output_dir={folder}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert sweep.returncode == 0, sweep.stderr
    assert sweep.stdout.count("2 of 2 steps, finished") == 2
    assert [steps_of(folder / f"seed-{seed}") for seed in (1, 2)] == [2, 2]
    assert len(list((folder / ".submitit").glob("*/*_log.out"))) == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("hydra/launcher=nowhere", "hydra/launcher=nowhere: .*nowhere"),
        ("hydra.launcher.no_such_key=1", "no_such_key"),
    ],
)
def test_a_launcher_that_hydra_does_not_have_is_named(setting, message, data, tmp_path, capsys):
    arguments = ["train", "-m", *SETTINGS, data, "policy=dp", "seed=1,2", setting]
    assert main([*arguments, f"output_dir={tmp_path / 'runs'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("hotloop: error: ") and error.count("\n") == 1
    assert re.search(message, error)


def test_a_job_that_slurm_starts_again_goes_on(data: str, tmp_path: Path, monkeypatch) -> None:
    """A job that is new does not touch a run that somebody else has begun in its folder."""
    more = ["policy=dp", "steps=4", "save_every=2", f"output_dir={tmp_path}"]
    sweep = expand([*SETTINGS, data, *more])
    (job,) = sweep.jobs
    train(replace(job.config(), steps=2))
    again = sweep_module._Training(sweep.jobs)
    assert "already holds a run" in again(SimpleNamespace(job=0))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert again(SimpleNamespace(job=0)) == ""
    assert steps_of(tmp_path) == 4


def test_a_sweep_is_not_nested_in_torchrun(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "-m", "seed=1,2"]) == 2
    assert "-m starts its runs itself; leave torchrun out" in capsys.readouterr().err


def test_a_lost_job_is_told_from_what_it_left(data: str, tmp_path: Path, monkeypatch, capsys):
    """A launcher that raises because a job was killed costs nobody else's result."""
    utils = pytest.importorskip("submitit.core.utils")

    def lose(self, chosen) -> str:
        raise utils.UncompletedJobError("Job 1 (task: 0) has no output")

    monkeypatch.setattr(sweep_module._Training, "__call__", lose)
    arguments = ["train", "-m", *SETTINGS, data, "policy=dp", "seed=1,2"]
    assert main([*arguments, f"output_dir={tmp_path}"]) == 1
    assert capsys.readouterr().out.count("0 of 2 steps, ended early, or still runs") == 2
