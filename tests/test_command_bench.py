"""`hotloop bench` from the command line to its JSON file, on the checkpoints that are included."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest
from noisy_hold import NoisyHold
from tiny_joints import save_tiny

from hotloop.policies.programs.engines import bound
from hotloop.train.cli import main
from hotloop.train.commands import ExitCode
from hotloop.train.measure.latency import ControlStepTimer, undisturbed

ENGINES = ("eager", "onnx")
BRIEFLY = ("engines=[eager]", "calls=[1]", "steps=4")


def bench(output: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run the command and return the rows that it wrote."""
    assert main(["bench", *arguments, f"output={output}"]) == ExitCode.SUCCESS
    return json.loads(output.read_text())["rows"]


def test_rows_compare_both_policies_on_every_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    output = tmp_path / "latency.json"
    rows = bench(output, "pusht-dp", "pusht-sdp", "engines=[eager]", "steps=4")
    names = {row["name"] for row in rows}
    assert names >= {"dp-ddpm-100", "dp-ddim-10", "dp-ddim-1", "sdp-2", "sdp-1"}
    more = bench(output, "pusht-dp", "pusht-sdp", "engines=[eager,onnx]", "calls=[1]", "steps=4")
    for engine in ENGINES:
        assert {row["name"] for row in more if row["engine"] == engine} >= {"dp-ddim-1", "sdp-1"}
    for row in rows + more:
        assert 0 < row["median_ms"] <= row["p99_ms"]
        assert row["overhead"] > -1
        assert 0 <= row["parity_max_abs"] < 1e-2
        assert row["num_calls"] == int(row["name"].rsplit("-", 1)[1])
        assert row["threads"] == 1
    printed = capsys.readouterr().out
    assert "dp-ddpm-100" in printed
    assert f"written: {output}" in printed


def test_auto_is_a_row_that_says_what_ran(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bound, "find_spec", lambda package: None)
    monkeypatch.setenv("HOTLOOP_CACHE", str(tmp_path / "cache"))
    arguments = ["pusht-sdp", "engines=[auto,eager]", "calls=[1]", "steps=2"]
    chosen, named = bench(tmp_path / "latency.json", *arguments)
    assert (chosen["engine_asked"], chosen["engine"]) == ("auto", "eager")
    assert (named["engine_asked"], named["engine"]) == ("eager", "eager")
    assert "auto: eager" in capsys.readouterr().out


def test_of_policies_that_see_the_encoders_share_is_told(tmp_path: Path) -> None:
    output, checkpoint = tmp_path / "latency.json", save_tiny(tmp_path / "sdp", "sdp-image")
    seeing, blind = bench(output, str(checkpoint), "pusht-sdp", *BRIEFLY)
    assert 0 < seeing["encoder_ms"] < seeing["forward_ms"]
    assert 0 < seeing["encoder_share"] < 1
    assert seeing["overhead"] > -1 and seeing["parity_max_abs"] == 0
    assert blind["encoder_ms"] is None and blind["encoder_share"] is None


def test_calls_share_one_run_of_the_encoder() -> None:
    """Beside 30 calls of 1 ms, each after an encoder of 4 ms if made alone, nothing is left."""
    timer = ControlStepTimer(NoisyHold(), lambda: None, encode=lambda: None)
    timer.plan_blocks, timer.forward_blocks = [[34.0], [68.0]], [[5.0], [10.0]]
    timer.encode_blocks = [[4.0], [8.0]]
    assert timer.overhead(30) == pytest.approx(0.0)
    assert timer.encoder_share() == pytest.approx(4 / 34)


def test_what_a_caller_has_frozen_stays_frozen_after_a_measurement() -> None:
    gc.freeze()  # as a process in real time does, and the suite with what it imports
    frozen = gc.get_freeze_count()
    with undisturbed():
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count() >= frozen > 0


def test_each_thread_count_is_measured_in_its_own_process(tmp_path: Path) -> None:
    rows = bench(
        tmp_path / "latency.json",
        *("pusht-sdp", "engines=[eager]", "calls=[1]", "threads=[1,2]", "steps=3"),
    )
    assert [(row["name"], row["threads"]) for row in rows] == [("sdp-1", 1), ("sdp-1", 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["steps=3"], "needs at least one checkpoint, e.g. hotloop bench pusht-sdp"),
        (["pusht-sdp", "stepz=3"], "unknown key 'stepz'; did you mean steps?"),
        (["pusht-sdp", "threads=[0]"], "threads must be positive numbers, got [0]"),
        (
            ["pusht-dp", "engines=[eager]", "sampling.prefix_guidance=vjp", "calls=[2]"],
            "leave sampling.prefix_guidance out",
        ),
    ],
)
def test_wrong_arguments_are_one_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == ExitCode.USAGE
    assert message in capsys.readouterr().err
