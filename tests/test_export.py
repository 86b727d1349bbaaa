"""Exported policies: the same actions, bit for bit, without PyTorch; or nothing at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_act
from lerobot_folders import golden_folder
from tiny_joints import save_tiny

from hotloop.decoding import Executor, Policy, exported_runtime
from hotloop.decoding.conformance import check_policy
from hotloop.decoding.exported import ExportedPolicy
from hotloop.policies import load_checkpoint
from hotloop.policies.act.config import ActSampling
from hotloop.policies.checkpoint import Checkpoint
from hotloop.policies.diffusion.config import StreamingSampling
from hotloop.policies.export.onnx_files import ONNX
from hotloop.policies.export.write import export_policy
from hotloop.policies.lerobot.given import Given
from hotloop.train.cli import main
from hotloop.train.commands import ExitCode
from hotloop.train.commands.opening import open_policy

STATE = "observation.state"
NUM_STEPS = 30


def frames(policy: Policy) -> Iterator[dict[str, np.ndarray]]:
    """Observations of `NUM_STEPS` control steps, without an axis of rows."""
    generator = np.random.default_rng(0)
    for _ in range(NUM_STEPS):
        yield {
            key: generator.integers(0, 256, shape, np.uint8)
            if len(shape) == 3
            else generator.uniform(-0.5, 0.5, shape).astype(np.float32)
            for key, shape in policy.observation_spec.shapes.items()
        }


def acted(policy: Policy, latency: int = 0) -> np.ndarray:
    executor = Executor(policy, latency=latency)
    executor.reset([7])
    rows = ({key: value[None] for key, value in one.items()} for one in frames(policy))
    return np.concatenate([executor.act(frame) for frame in rows])


def joints(folder: Path, kind: str, **sampling) -> Checkpoint:
    return load_checkpoint(save_tiny(folder / kind, kind, **sampling))


def act(folder: Path) -> Checkpoint:
    model = tiny_act.tiny_act(pictures=True)
    model.action_head.weight.data /= 20  # inside the bounds
    return Checkpoint("act", model, tiny_act.SPEC, ActSampling(1, 0.1), {"task": "own"})


CASES = {
    "more calls than one file": lambda at: joints(at, "dp", calls_per_step=21, update="ddpm"),
    "sdp-constant": lambda at: joints(at, "sdp", start="constant", start_key=STATE),
    "sdp-image": lambda at: joints(at, "sdp-image", calls_per_step=1),
    "act-ensemble": act,
    "of LeRobot": lambda at: load_checkpoint(golden_folder("dp_state_ddim10", at), Given(dt=0.1)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_runtime_acts_bit_for_bit_as_the_engine_does(case, tmp_path) -> None:
    checkpoint, out = CASES[case](tmp_path), tmp_path / "out"
    policy = checkpoint.policy(engine="onnx")
    expected = acted(policy)
    export_policy(checkpoint, out, num_steps=8)
    robot = exported_runtime.Runtime(out)
    robot.reset(7)
    found = np.stack([robot.act(frame) for frame in frames(policy)])
    np.testing.assert_array_equal(found, expected)
    exported = ExportedPolicy(out)
    np.testing.assert_array_equal(acted(exported), expected)
    assert np.ptp(expected, axis=0).min() > 1e-3
    check_policy(exported)
    about = json.loads((out / "policy.json").read_text())
    assert all(one.get("ir_version", 8) == 8 for one in about["graphs"].values())


def test_plans_that_begin_late_are_exported_with_what_was_executed(tmp_path: Path) -> None:
    """More past slots than a chunk is long, and committed actions in front of the buffer."""
    model = tiny.tiny_model(num_obs_steps=4, horizon=11, ladders=("2x3",), max_latency=1)
    sampling = StreamingSampling(2, 1)
    checkpoint = Checkpoint("sdp", model, tiny.SPEC, sampling, {"task": "own"})
    policy = checkpoint.policy(engine="onnx")
    export_policy(checkpoint, tmp_path / "out", num_steps=8)
    exported = ExportedPolicy(tmp_path / "out")
    for latency in (0, 1):
        expected = acted(policy, latency)
        np.testing.assert_allclose(acted(exported, latency), expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """A streaming policy of the simulated arm, by the command."""
    folder = tmp_path_factory.mktemp("exported")
    checkpoint = save_tiny(folder / "run", "sdp", calls_per_step=1)
    code = main(["export", str(checkpoint), str(folder / "out"), "steps=8"])
    assert code == ExitCode.SUCCESS
    return folder / "out"


@pytest.fixture(scope="module")
def unexported(exported: Path) -> tuple[Checkpoint, Policy]:
    """What was exported, and on its engine: exports are shared with it as long as it lives."""
    checkpoint = load_checkpoint(exported.parent / "run")
    return checkpoint, checkpoint.policy(engine="onnx")


def test_a_command_that_needs_the_weights_says_so(exported: Path) -> None:
    with pytest.raises(ValueError, match="is an exported policy, which `hotloop control`"):
        load_checkpoint(exported)


def without_torch(folder: Path) -> dict[str, str]:
    """An environment in which importing torch fails."""
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text("raise ImportError('there is no torch')\n")
    path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


ALONE = """\
import sys
sys.path.insert(0, sys.argv[1])
for name in ("hotloop", "torch"):
    sys.modules[name] = None
import numpy as np
from hotloop_runtime import Runtime
robot = Runtime(sys.argv[1])
robot.reset(seed=3)
state = np.linspace(-0.3, 0.3, 6)
print([robot.act({"observation.state": state}).tolist() for _ in range(5)])
"""


def test_the_copied_runtime_needs_neither_hotloop_nor_torch(exported, unexported) -> None:
    command = [sys.executable, "-I", "-c", ALONE, str(exported)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    executor = Executor(unexported[1])
    executor.reset([3])
    frame = {STATE: np.linspace(-0.3, 0.3, 6, dtype=np.float32)[None]}
    np.testing.assert_array_equal(found, [executor.act(frame)[0] for _ in range(5)])


def test_control_runs_an_exported_policy_without_torch(exported, tmp_path) -> None:
    process = subprocess.run(
        [
            sys.executable, "-m", "hotloop.train.cli", "control", "robot=mujoco-arm",
            f"checkpoint={exported}", f"output_dir={tmp_path / 'log'}", "duration=1",
            "robot.control.slow_start=0.2", "robot.control.rules.max_age=5.0",
            "robot.control.stale_timeout=5.0",
        ],
        capture_output=True,
        text=True,
        env=without_torch(tmp_path / "blocked"),
    )  # fmt: skip
    assert process.returncode == ExitCode.SUCCESS, process.stdout + process.stderr
    summary = json.loads((tmp_path / "log" / "summary.json").read_text())
    assert summary["accepted_chunks"] >= 1 and summary["limit_violations"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vla", "new"], "kind 'vla' cannot be exported"),
        (["dp", "new", "sampling.prefix_guidance=vjp"], "real-time chunking is not exported"),
        (["dp", "new", "format=tflite"], "there is no export format 'tflite'"),
        (["dp", "new", "steps=0"], "steps must be at least 1"),
        (["dp", "new", "sampling.start=zero"], "no sampling choices"),
        (["dp", "foreign"], "exists and was not exported"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_written(
    arguments, message, tmp_path, capsys
) -> None:
    kind, name, *overrides = arguments
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("two years of work")
    checkpoint = save_tiny(tmp_path / kind, kind)
    code = main(["export", str(checkpoint), str(tmp_path / name), *overrides])
    assert code == ExitCode.USAGE
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "foreign" / "thesis.tex").read_text() == "two years of work"


def off(name, inputs):
    return {key: value + 0.01 for key, value in WRONG_LOADED[0](name, inputs).items()}


WRONG_LOADED: list = []


def load_wrong(folder: Path):
    WRONG_LOADED[:] = [ONNX.load(folder)]
    return off


WRONG = replace(ONNX, load=load_wrong)


def test_graphs_beyond_the_tolerance_are_not_kept(unexported, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"differs from eager PyTorch by .*nothing is written"):
        export_policy(unexported[0], tmp_path / "out", f"{Path(__file__).stem}:WRONG")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file", "change", "kind", "message"),
    [
        ("weights.bin", lambda old: old[:-1] + bytes([old[-1] ^ 1]), ValueError, "is damaged"),
        ("step.onnx", lambda old: old[: len(old) // 2], ValueError, "is damaged"),
        ("step.onnx", None, FileNotFoundError, "step.onnx"),
        ("weights.bin", lambda old: b"", ValueError, "is damaged"),
        ("policy.json", lambda old: old.replace(b'"kind"', b'"kin"'), ValueError, "was changed"),
        ("policy.json", lambda old: old.replace(b"-", b"", 1), ValueError, "was changed"),
        ("policy.json", lambda old: old[:100], ValueError, "policy.json is damaged"),
        ("policy.json", lambda old: b"[]", ValueError, "policy.json is damaged"),
        (
            "policy.json",
            lambda old: old.replace(b'"format_version": 1', b'"format_version": 2'),
            ValueError,
            "export anew",
        ),
    ],
)
def test_a_damaged_folder_is_refused(exported, file, change, kind, message, tmp_path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "copy"))
    if change is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(change((folder / file).read_bytes()))
    with pytest.raises(kind, match=message):
        open_policy(str(folder))


def test_a_folder_of_before_the_seal_and_one_that_was_indented_anew_are_run(exported, tmp_path):
    folder = Path(shutil.copytree(exported, tmp_path / "copy of before"))
    about = json.loads((folder / "policy.json").read_text())
    (folder / "policy.json").write_text(json.dumps(about))
    assert open_policy(str(folder)).kind == "sdp"
    del about["seal"]
    (folder / "policy.json").write_text(json.dumps(about))
    assert open_policy(str(folder)).kind == "sdp"
    about["runtime"] = "other"
    (folder / "policy.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="does not run"):
        open_policy(str(folder))


def test_choices_that_are_fixed_are_refused(exported) -> None:
    with pytest.raises(ValueError, match=r"sampling.calls_per_step cannot be changed; export"):
        open_policy(str(exported), {"calls_per_step": 2})
    with pytest.raises(ValueError, match="engine 'eager' cannot run it"):
        open_policy(str(exported), engine="eager")


def test_an_exported_folder_is_replaced_only_on_demand(exported, capsys) -> None:
    arguments = ["export", str(exported.parent / "run"), str(exported), "steps=8"]
    assert main(arguments) == ExitCode.USAGE
    assert "overwrite=true replaces it" in capsys.readouterr().err
    (exported / "notes.txt").write_text("mine")
    assert main([*arguments, "overwrite=true"]) == ExitCode.USAGE
    assert "notes.txt was not exported and would be lost" in capsys.readouterr().err
    (exported / "notes.txt").unlink()
    (exported / "__pycache__").mkdir(exist_ok=True)
    assert main([*arguments, "overwrite=true"]) == ExitCode.SUCCESS


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({}, "'observation.state' is missing"),
        ({STATE: np.zeros(5)}, "must be finite"),
        ({STATE: np.full(6, np.nan)}, "must be finite"),
    ],
)
def test_the_runtime_refuses_frames_that_are_none(exported, frame, message) -> None:
    robot = exported_runtime.Runtime(exported)
    with pytest.raises(ValueError, match=message):
        robot.act(frame)
