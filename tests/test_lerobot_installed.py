"""Policies that LeRobot itself runs, behind hotloop's contract; LeRobot is a stub here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lerobot_installed_stub
import numpy as np
import pytest
from lerobot_installed_stub import CHUNK, TOP, write_folder

from hotloop.decoding import Executor
from hotloop.decoding.conformance import PolicyConformance
from hotloop.decoding.instruction import INSTRUCTION_KEY, encode_instruction
from hotloop.policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hotloop.policies.lerobot import installed
from hotloop.policies.lerobot.given import Given
from hotloop.train.cli import main
from hotloop.train.commands import ExitCode
from hotloop.train.config.evaluation import BenchConfig
from hotloop.train.measure.bench import timed_rows

GIVEN = Given(dt=0.1, action_high=(1000.0, 20.0))
JOINTS = "robot.joints"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    lerobot_installed_stub.install(monkeypatch)


def opened(path: Path, given: Given = GIVEN, **choices: Any) -> Checkpoint:
    return load_checkpoint(f"lerobot:{write_folder(path / 'run', **choices)}", given)


@pytest.mark.usefixtures("stub")
class TestInstalledContract(PolicyConformance):
    @pytest.fixture
    def policy(self, tmp_path: Path) -> Any:
        return opened(tmp_path, cameras=True).policy()


@pytest.mark.usefixtures("stub")
def test_the_folder_says_what_is_observed_and_how_far_actions_reach(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, cameras=True)
    spec = checkpoint.policy().observation_spec
    assert (spec.num_steps, spec.shapes) == (2, {JOINTS: (3,), TOP: (4, 6, 3)})
    assert checkpoint.action_spec.high == (1000.0, 20.0)
    np.testing.assert_allclose(checkpoint.action_spec.low, [-20.0, -9.0], rtol=1e-4)
    assert checkpoint.policy().num_execute == 3


@pytest.mark.usefixtures("stub")
def test_each_plan_sees_the_executors_history(tmp_path: Path) -> None:
    """LeRobot's own queues would hold one frame per plan; these hold one per control step."""
    executor = Executor(opened(tmp_path, cameras=True).policy())
    executor.reset([5])
    found = []
    for step in range(6):
        picture = np.full((1, 4, 6, 3), 51 * step, np.uint8)
        frame = {JOINTS: np.full((1, 3), step, np.float32), TOP: picture}
        found.append(executor.act(frame)[0, 0])
    # Plans at steps 0 and 3: states 3 * (0 + 0) and 3 * (2 + 3), pictures 0 and 0.2 * (2 + 3).
    expected = [2 * (first + ahead) for first in (0, 16) for ahead in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.usefixtures("stub")
def test_its_instruction_is_what_was_asked_for(tmp_path: Path) -> None:
    policy = opened(tmp_path, task=True).policy()
    executor = Executor(policy)
    executor.reset([0])
    frame = {
        JOINTS: np.zeros((1, 3), np.float32),
        INSTRUCTION_KEY: encode_instruction("pick it up")[None],
    }
    assert executor.act(frame)[0, 0] == len("pick it up")


@pytest.mark.usefixtures("stub")
def test_it_is_timed_beside_others_and_by_eager_alone(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path)
    (row,) = timed_rows("run", checkpoint, "eager", BenchConfig())
    row.timer.run_block(2)
    assert (row.name, row.costs.parity) == ("lerobot-imagined", None)
    assert timed_rows("run", checkpoint, "onnx", BenchConfig()) == []
    both = BenchConfig(engines=("eager", "onnx"))
    assert timed_rows("run", checkpoint, "onnx", both) == []
    (auto,) = timed_rows("run", checkpoint, "auto", BenchConfig(engines=("onnx", "auto")))
    assert (auto.asked, auto.policy.engine) == ("auto", "eager")
    with pytest.raises(ValueError, match="engine must be 'eager', got 'onnx'"):
        checkpoint.policy(engine="onnx")


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize(
    ("choices", "given", "message"),
    [
        ({}, Given(), r"how often actions are sent; .* lerobot\.dt=0\.1"),
        ({"n_obs_steps": "two"}, GIVEN, "LeRobot cannot read .*: n_obs_steps: no number"),
        ({"temporal_ensemble_coeff": 0.01}, GIVEN, "averages its chunks.*open it without lerobot:"),
        ({"n_action_steps": 0}, GIVEN, "num_execute must be at least 1, got 0"),
        ({"n_action_steps": 9}, GIVEN, rf"between 1 and {CHUNK}, the actions of a chunk, got 9"),
        (
            {"output_features": {"action": {"type": "ACTION", "shape": [3]}}},
            Given(0.1, (), (-1.0,) * 3, (1.0,) * 3),
            r"actions of shape \(5, 2\), expected \(steps, 3\)",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_a_robot_moves(
    tmp_path: Path, choices: dict[str, Any], given: Given, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, given, **choices).policy()


@pytest.mark.usefixtures("stub")
def test_it_is_not_stored_in_another_form(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path)
    with pytest.raises(ValueError, match="LeRobot's own and cannot be stored"):
        save_checkpoint(tmp_path / "out", checkpoint)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("stub")
def test_a_missing_folder_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no LeRobot checkpoint at .*nowhere"):
        load_checkpoint(f"lerobot:{tmp_path / 'nowhere'}", GIVEN)
    folder = write_folder(tmp_path / "run")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
        load_checkpoint(f"lerobot:{folder}", GIVEN)


def test_without_lerobot_the_message_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install lerobot, on Python 3\.12 or later"):
        opened(tmp_path)


@pytest.mark.usefixtures("stub")
def test_it_is_timed_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "run")
    words = ["bench", f"lerobot:{folder}", "lerobot.dt=0.1", "steps=2"]
    assert main(words) == ExitCode.SUCCESS
    assert "lerobot-imagined" in capsys.readouterr().out
    assert main([*words, "engines=[onnx]"]) == ExitCode.USAGE
    assert "engine must be 'eager'" in capsys.readouterr().err
