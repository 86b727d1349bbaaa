"""`hotloop bench` of vision-language policies, in a stand-in for a simulator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tiny_vla import IMAGE, SPEC, STATE_KEY, TEXTS, tiny_model

from hotloop.decoding import ActionTrajectory, Observation, ObservationSpec
from hotloop.decoding.instruction import INSTRUCTION_KEY, encode_instruction
from hotloop.envs.task import Task
from hotloop.policies.checkpoint import Checkpoint, save_checkpoint
from hotloop.policies.vla import TokenDecodingConfig
from hotloop.train.cli import main
from hotloop.train.commands import ExitCode
from hotloop.train.measure import recorded_frames
from hotloop.train.measure.latency import ControlStepTimer

NUM_TOKENS = 12  # 4 actions of 3 dimensions


class Table:
    """Pictures, a state and an instruction; an episode has 14 steps."""

    score, success, terminated = 0.0, False, False

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        self._rng, self._text, self._num_steps = np.random.default_rng(seed), TEXTS[seed % 3], 0
        return self._frame()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool]:
        assert action.shape == (3,)
        self._num_steps += 1
        return self._frame(), 0.0, self._num_steps == 14

    def render(self) -> np.ndarray:
        return np.zeros((16, 16, 3), np.uint8)

    def close(self) -> None:
        pass

    def _frame(self) -> dict[str, np.ndarray]:
        return {
            IMAGE: self._rng.integers(256, size=(16, 16, 3), dtype=np.uint8),
            STATE_KEY: self._rng.uniform(-1, 1, 2).astype(np.float32),
            INSTRUCTION_KEY: encode_instruction(self._text),
        }


def no_simulator() -> Table:
    raise ImportError("the table needs a simulator: pip install 'hotloop[table]'")


def checkpoint(path: Path, task: str = "table") -> str:
    model, stored = tiny_model(), TokenDecodingConfig(4, guess="previous", max_calls=1)
    save_checkpoint(path, Checkpoint("vla", model, SPEC, stored, {"task": task}))
    return str(path)


@pytest.fixture(autouse=True)
def _tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {IMAGE: (16, 16, 3), STATE_KEY: (2,), INSTRUCTION_KEY: (128,)}
    makers = {"table": Table, "bare-table": no_simulator}
    tasks = {name: Task(name, SPEC, shapes, 14, "none", make) for name, make in makers.items()}
    monkeypatch.setattr(recorded_frames, "make_task", tasks.__getitem__)


def test_rows_compare_the_decoders_of_teacher_and_student(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [checkpoint(tmp_path / name) for name in ("teacher", "student")]
    output = tmp_path / "decoders.json"
    assert (
        main(["bench", *names, "engines=[eager]", "steps=2", f"output={output}"])
        == ExitCode.SUCCESS
    )
    rows = {(row["checkpoint"], row["name"]): row for row in json.loads(output.read_text())["rows"]}
    exits = {f"vla-exit-{sigma}": sigma for sigma in (4, 2, 1)}
    waiting = {"vla-greedy", "vla-jacobi", "vla-committed"}
    decoders = {*exits, *waiting, "vla-adaptive"}
    assert set(rows) == {(name, one) for name in ("teacher", "student") for one in decoders}
    for (_, name), row in rows.items():
        assert row["num_calls"] <= exits.get(name, NUM_TOKENS + 1)
        assert row["engine"] == "eager"
        assert row["forward_ms"] > 0
        assert 0 < row["median_ms"] <= row["p99_ms"]
        assert row["tokens_per_second"] == pytest.approx(3 * row["actions_per_second"])
    assert rows["teacher", "vla-greedy"]["num_calls"] == NUM_TOKENS
    assert rows["teacher", "vla-exit-1"]["num_calls"] == 1
    assert rows["teacher", "vla-committed"]["num_calls"] > 4, "the stored exit is not its own"
    printed = capsys.readouterr().out
    assert "vla-adaptive             student" in printed
    (line,) = [
        one for one in printed.splitlines() if one.startswith("vla-greedy") and "teach" in one
    ]
    assert line.endswith(" 1.00")


def test_numbers_of_calls_are_early_exits(tmp_path: Path) -> None:
    output = tmp_path / "decoders.json"
    name = checkpoint(tmp_path / "vla")
    arguments = ["calls=[3]", "engines=[eager]", "steps=2", f"output={output}"]
    assert main(["bench", name, *arguments]) == ExitCode.SUCCESS
    assert [row["name"] for row in json.loads(output.read_text())["rows"]] == ["vla-exit-3"]


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        ("bare-table", [], "the table needs a simulator: pip install 'hotloop[table]'"),
        ("", [], "the checkpoint does not say which that is; train it with task.name"),
        ("table", ["engines=[onnx]", "sampling.cached=false"], "which engine 'onnx' never does"),
        ("table", ["sampling.unverified=hold"], "unverified=hold plans differ in length"),
        (
            "table",
            ["sampling.num_execute=2", "sampling.max_calls=-2"],
            "(sigma) must be at least 1",
        ),
    ],
)
def test_what_cannot_be_timed_is_one_message(
    tmp_path: Path,
    task: str,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", checkpoint(tmp_path / "vla", task), *arguments]) == ExitCode.USAGE
    assert message in capsys.readouterr().err


class Watcher:
    """Plans four steps and writes down what it has seen."""

    num_execute, action_spec = 4, SPEC
    observation_spec = ObservationSpec({"number": (1,)}, 1)

    def __init__(self) -> None:
        self.seen: list[int] = []

    def reset(self, seeds: np.ndarray, rows: np.ndarray | None = None) -> None:
        self.seen.append(-1)

    def plan(self, observation: Observation, step: np.ndarray) -> ActionTrajectory:
        self.seen.append(int(observation.frames["number"][0, 0, 0]))
        actions = np.zeros((1, 4, 3))
        return ActionTrajectory(
            actions, step, step, SPEC.dt, np.zeros((1, 4), np.float32), np.ones((1, 4), bool)
        )


def numbered(first: int, length: int) -> list[Mapping[str, np.ndarray]]:
    return [{"number": np.full((1, 1), first + step, np.float32)} for step in range(length)]


def test_recorded_episodes_are_timed_in_their_order_but_for_their_first_plans() -> None:
    policy = Watcher()
    timer = ControlStepTimer(
        policy, episodes=[numbered(100, 13), numbered(200, 8)], calls=lambda: policy.seen[-1]
    )
    timer.run_block(5)
    begun, first, *later = policy.seen
    assert (begun, first) == (-1, 100)
    # The block's warm-up takes one more plan.
    assert later == [104, 108, -1, 200, 204, -1, 100, 104, 108, -1, 200, 204]
    assert timer.num_calls == [108, 204, 104, 108, 204]
    assert len(timer.plan_ms) == 5


def test_recorded_episodes_must_hold_a_plan_to_time() -> None:
    with pytest.raises(ValueError, match="at least two plans of 4 steps, got one of 7 frames"):
        ControlStepTimer(Watcher(), episodes=[numbered(0, 7)])
