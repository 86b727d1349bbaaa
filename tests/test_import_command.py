"""`hotloop import`, and LeRobot's folders in other commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lerobot_folders import arm_folder, golden_folder
from tiny_joints import NAMES

from hotloop.decoding import Executor
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.lerobot.given import Given
from hotloop.train.cli import main
from hotloop.train.commands.opening import open_policy
from hotloop.train.config.lerobot import LeRobotConfig, load_for_task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return golden_folder("dp_state_ddim10", tmp_path)


def test_import_stores_an_ordinary_checkpoint_and_says_what_it_is(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "own"
    assert main(["import", str(folder), str(out), "dt=0.1", "action_low=[-1,0]"]) == 0
    said = capsys.readouterr().out
    for text in (
        "dp, 0.27 M parameters",
        "num_execute=8, calls_per_step=10, update=ddim, spacing=leading",
        "period    0.1 s",
        "action 0  clipped to -1 .. 2",
    ):
        assert text in said
    assert load_checkpoint(out).action_spec.dt == 0.1
    assert main(["import", str(folder), str(out), "dt=0.2"]) == 2
    assert "add overwrite=true" in capsys.readouterr().err
    assert main(["import", str(folder), str(out), "dt=0.2", "overwrite=true"]) == 0
    assert load_checkpoint(out).action_spec.dt == 0.2


@pytest.mark.parametrize("place", ["", "checkpoints/000010", "checkpoints/last"])
def test_a_run_a_step_and_its_folder_are_found(folder: Path, tmp_path: Path, place: str) -> None:
    target = tmp_path / "run" / "checkpoints" / "000010" / "pretrained_model"
    target.parent.mkdir(parents=True)
    folder.rename(target)
    (tmp_path / "run/checkpoints/last").symlink_to("000010")
    assert load_checkpoint(tmp_path / "run" / place, Given(dt=0.1)).kind == "dp"


def test_a_data_set_knows_period_names_and_range(folder: Path, tmp_path: Path) -> None:
    meta = tmp_path / "data" / "meta"
    meta.mkdir(parents=True)
    action = {"dtype": "float32", "shape": [2], "names": {"motors": ["x", "y"]}}
    (meta / "info.json").write_text(json.dumps({"fps": 20, "features": {"action": action}}))
    (meta / "stats.json").write_text(json.dumps({"action": {"min": [-3, 0], "max": [3, 1]}}))
    out = tmp_path / "own"
    assert main(["import", str(folder), str(out), f"dataset={meta.parent}"]) == 0
    spec = load_checkpoint(out).action_spec
    assert (spec.names, spec.dt) == (("x", "y"), 0.05)
    assert spec.low == pytest.approx((-3, 0), abs=1e-5)


@pytest.mark.parametrize(
    ("fps", "shape", "least", "message"),
    [
        (True, [2], [0, 0], "fps must be a positive number, got True"),
        (1e-320, [2], [0, 0], "fps must be a positive number"),
        (10, [2, 3], [0, 0], r"the number of actions in a list, got \[2, 3\]"),
        (10, None, [0, 0], "the number of actions in a list, got None"),
        (10, [2], ["a", 0], "lists of 2 finite numbers"),
        (10, [2], {"x": 0}, "lists of 2 finite numbers"),
        (10, [2], [float("nan"), 0], "lists of 2 finite numbers"),
        (10, [2], [10**400, 0], "lists of 2 finite numbers"),
        (10, [2], [0, [1]], "lists of 2 finite numbers"),
        (10, [2], [3, 3], "must not be above action.max"),
    ],
)
def test_a_damaged_data_set_is_told_by_file_and_entry(
    tmp_path: Path, fps: object, shape: object, least: object, message: str
) -> None:
    meta = tmp_path / "meta"
    meta.mkdir()
    info = {"fps": fps, "features": {"action": {"shape": shape, "names": ["x", "y"]}}}
    (meta / "info.json").write_text(json.dumps(info))
    (meta / "stats.json").write_text(json.dumps({"action": {"min": least, "max": [1, 1]}}))
    with pytest.raises(ValueError, match=message) as raised:
        LeRobotConfig(dataset=str(tmp_path)).given()
    assert str(meta) in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}", "{out}"], "give dt=0.1 (1 / fps of its recordings), dataset=FOLDER or task="),
        (["{folder}", "{out}", "dt=0"], "dt=0.1 (1 / fps"),
        (["{folder}", "{out}", "dt=-1"], "dt must be a positive number of seconds"),
        (["{folder}", "{folder}", "dt=0.1"], "holds the checkpoint that is read"),
        (["{folder}", "{folder}/..", "dt=0.1"], "holds the checkpoint that is read"),
        (["{folder}/..", "{out}", "dt=0.1"], "is no LeRobot checkpoint"),
        (["{out}", "{out}2", "dt=0.1"], "there is no "),
        (["{folder}", "{out}", "dataset={out}"], "info.json"),
        (["{folder}", "{out}", "dt=0.1", "action_low=[3,3]"], "low must be below high"),
        (["{folder}", "{out}", "fps=10"], "unknown key 'fps'"),
    ],
)
def test_mistakes_are_one_sentence_and_nothing_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list, message: str
) -> None:
    out = tmp_path / "own"
    assert main(["import", *(one.format(folder=folder, out=out) for one in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_folder_with_other_files_is_never_replaced(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "notes"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert main(["import", str(folder), str(out), "dt=0.1", "overwrite=true"]) == 2
    assert "is not a checkpoint and nothing else" in capsys.readouterr().err
    assert (out / "notes.txt").read_text() == "mine"


def test_a_tasks_period_is_that_of_the_actions_and_bounds_end_with_its_own(folder: Path) -> None:
    own = load_checkpoint(folder, Given(dt=0.1)).action_spec
    spec = type(own)(("x", "y"), (-2.0, 0.0), (2.0, 5.0), 0.25)
    fitted = load_for_task(folder, LeRobotConfig(), spec).action_spec
    assert (fitted.low, fitted.high, fitted.dt) == (spec.low, spec.high, 0.25)
    wide = type(own)(("x", "y"), (0.0, 0.0), (512.0, 512.0), 0.25)
    assert load_for_task(folder, LeRobotConfig(), wide).action_spec.low[0] < -2


def test_commands_open_the_folder_itself(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = open_policy(str(folder), {"num_execute": 4}, lerobot={"dt": 0.1})
    assert opened.policy.num_execute == 4
    with pytest.raises(ValueError, match=r"lerobot\.\* says what LeRobot's folders do not"):
        open_policy("pusht-dp", lerobot={"dt": 0.1})
    with pytest.raises(ValueError, match=r"unknown key 'lerobot.fps'"):
        open_policy(str(folder), lerobot={"fps": 10})
    output = tmp_path / "latency.json"
    arguments = ["bench", str(folder), "engines=[eager]", "calls=[2]", "steps=2"]
    assert main([*arguments, f"output={output}"]) == 0
    (row,) = json.loads(output.read_text())["rows"]
    assert row["num_calls"] == 2
    capsys.readouterr()
    assert main(["eval", str(folder)]) == 2
    assert "lerobot.dt=0.1" in capsys.readouterr().err


def test_real_time_chunking_runs_on_an_imported_policy(folder: Path) -> None:
    policy = load_checkpoint(folder, Given(dt=0.1)).policy(
        {"prefix_guidance": "vjp", "num_execute": 3, "calls_per_step": 2}
    )
    executor = Executor(policy, latency=1)
    executor.reset([0])
    generator = np.random.default_rng(0)
    shapes = policy.observation_spec.shapes
    actions = []
    for _ in range(8):
        frame = {
            key: generator.standard_normal((1, *shape)).astype(np.float32)
            for key, shape in shapes.items()
        }
        actions.append(executor.act(frame)[0])
    policy.action_spec.check(np.array(actions))


def test_a_folder_drives_the_simulated_arm(tmp_path: Path) -> None:
    """Names and period are the data set's; limits hold, and torch stays out of the control loop."""
    folder, dataset = arm_folder(tmp_path, NAMES, 20)
    arguments = [
        "robot=mujoco-arm", f"checkpoint={folder}", f"lerobot.dataset={dataset}", "duration=1",
        "robot.control.slow_start=0.2", "robot.control.rules.max_age=5.0",
        "robot.control.stale_timeout=5.0", f"output_dir={tmp_path}",
    ]  # fmt: skip
    command = [sys.executable, "-m", "hotloop.train.cli", "control", *arguments]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["accepted_chunks"] >= 1 and summary["limit_violations"] == 0
    assert not summary["torch_in_control_process"]
