"""`hotloop eval` from the command line to `eval_info.json`, on the policy that is included."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hotloop.policies.programs.engines import bound
from hotloop.train import EvalConfig, EvalOptions, evaluate
from hotloop.train.cli import main
from hotloop.train.commands import ExitCode

pytest.importorskip("gym_pusht")


def test_the_file_holds_score_interval_and_seeds_of_every_policy_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what ran it, where that was left to the machine; here to one that has PyTorch alone."""
    monkeypatch.setattr(bound, "find_spec", lambda package: None)
    monkeypatch.setenv("HOTLOOP_CACHE", str(tmp_path / "cache"))
    arguments = ["sampling.calls_per_step=1", "eval.n_episodes=2", "eval.seed=100003"]
    arguments.append("engine=auto")
    chosen = [*arguments, "compare=pusht-sdp", f"output_dir={tmp_path}"]
    assert main(["eval", "pusht-sdp", *chosen]) == ExitCode.SUCCESS
    files = [
        json.loads((tmp_path / name).read_text())
        for name in ("eval_info.json", "eval_info_compare.json")
    ]
    for content in files:
        result = content["aggregated"]
        assert result["run"] == {
            "engine_asked": "auto", "engine": "eager", "device": "cpu", "threads": 1
        }  # fmt: skip
        assert result["seeds"] == [100003, 100004]
        assert result["n"] == len(content["per_episode"]) == 2
        assert result["ci95"][0] <= result["mean_score"] <= result["ci95"][1]
        assert result["pc_success_ci95"][0] <= result["pc_success"] <= result["pc_success_ci95"][1]
    # The same policy on the same seeds has to score the same.
    assert files[0]["aggregated"]["mean_score"] == files[1]["aggregated"]["mean_score"]
    printed, told = capsys.readouterr()
    assert "engine auto: eager, as no other can; onnx cannot run it: engine 'onnx' needs" in told
    assert "pusht-sdp minus pusht-sdp: +0.000" in printed
    assert "better in 0, worse in 0 of 2 episodes" in printed


def test_a_wrong_key_names_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "pusht-sdp", "calls_per_stepp=1"]) == ExitCode.USAGE
    message = "unknown key 'calls_per_stepp'; did you mean sampling.calls_per_step?"
    assert message in capsys.readouterr().err


def test_several_processes_score_as_one_does() -> None:
    options = EvalOptions(n_episodes=2, seed=100003)
    found = [
        evaluate("pusht-sdp", EvalConfig(sampling={"calls_per_step": 1}, eval=episodes)).episodes
        for episodes in (options, replace(options, num_workers=2))
    ]
    assert found[0] == found[1]


def test_a_number_of_processes_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "pusht-sdp", "eval.num_workers=-1"]) == ExitCode.USAGE
    assert "eval.num_workers must be at least 0, got -1" in capsys.readouterr().err
